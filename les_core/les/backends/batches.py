"""Lists of structures that a calculator evaluates together, and what a batch gives for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

#: Most atoms in one batch, unless a single structure has more: what memory is needed for.
MOST_ATOMS = 2000
#: Structures in one batch.
BATCH_SIZE = 32

Item = TypeVar("Item")


def divided(
    outputs: Mapping[str, Tensor], sizes: Sequence[int], of_structures: Collection[str]
) -> list[dict[str, Tensor]]:
    """The outputs of a model for a batch, structure by structure.

    Args:
        outputs: by name; ``[n_structures, ...]`` or ``[n_atoms, ...]``.
        sizes: number of atoms of each structure.
        of_structures: names of outputs with one entry for each structure, not for each atom.
    """
    parts = {
        name: values.unbind() if name in of_structures else values.split(list(sizes))
        for name, values in outputs.items()
    }
    return [{name: part[number] for name, part in parts.items()} for number in range(len(sizes))]


def batched(
    items: Iterable[tuple[Item, int]], size: int = BATCH_SIZE, most: int = MOST_ATOMS
) -> Iterator[list[Item]]:
    """Items in groups of ``size``, or fewer where they would have more than ``most`` atoms.

    Args:
        items: each with its number of atoms.
        size: most items of a group.
        most: most atoms of a group of several items.
    """
    group: list[Item] = []
    total = 0
    for item, n_atoms in items:
        if group and (len(group) == size or total + n_atoms > most):
            yield group
            group, total = [], 0
        group.append(item)
        total += n_atoms
    if group:
        yield group


def results_together(calculator: Any, structures: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Results of a calculator for each structure; as for a single one where it knows no batches.

    Args:
        calculator: any ASE calculator; those of this package know batches.
        structures: ``ase.Atoms``.
    """
    if len(structures) > 1 and hasattr(calculator, "calculate_together"):
        yield from calculator.calculate_together(structures)
        return
    for atoms in structures:
        calculator.calculate(atoms)
        yield dict(calculator.results)
