"""What becomes of the structures of a file: results from batches, or what is wrong with one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from les.backends.attempt import BadStructureError, attempt
from les.backends.batches import batched, results_together
from les.backends.signs import restore_sign, state_of_sign
from les.data.atoms import ANY_AXES, check_atoms, unused_labels_told
from les.data.structure_files import Entry
from les.predict.output import wanted

logger = logging.getLogger("les")

#: Results of a structure, or why there are none, and the sign of the charges from then on.
Outcome = tuple["dict[str, Any] | BadStructureError", "dict[str, Any]"]


def outcomes(calculator: Any, entries: Iterable[Entry], batch_size: int) -> Iterator[Outcome]:
    """Results of each structure in turn, or what is wrong with it.

    Structures are evaluated together. Where a batch fails, they are evaluated one by one, so that
    the error of one is no matter for the others, and names it.

    Args:
        calculator: an ASE calculator.
        entries: the structures, see ``les.data.structure_files.entries``.
        batch_size: structures that are evaluated together, fewer where they are large.

    Raises:
        OSError, MemoryError, torch.OutOfMemoryError: which are not the fault of a structure.
    """
    if not hasattr(calculator, "calculate_together"):
        batch_size = 1
    for group in batched(_loaded(entries), batch_size):
        good = [atoms for _, atoms in group if not isinstance(atoms, BadStructureError)]
        together = iter(_together(calculator, good))
        for where, atoms in group:
            found: dict[str, Any] | BadStructureError
            if isinstance(atoms, BadStructureError):
                yield atoms, state_of_sign(calculator)
            elif (outcome := next(together, None)) is not None:
                yield outcome
            else:
                try:
                    found = attempt(where, partial(_itself, atoms), partial(_results, calculator))
                except BadStructureError as error:
                    found = error
                yield found, state_of_sign(calculator)


def _loaded(entries: Iterable[Entry]) -> Iterator[tuple[tuple[str, Any], int]]:
    """Where each structure is from, the structure or what is wrong with it, and its size."""
    for where, load in entries:
        try:
            atoms = attempt(where, load, _checked)
        except BadStructureError as error:
            yield (where, error), 0
        else:
            yield (where, atoms), len(atoms)


def _checked(atoms: Any) -> Any:
    check_atoms(atoms, ANY_AXES)  # what the model supports, its calculator knows
    return atoms


def _itself(atoms: Any) -> Any:
    return atoms


def _together(calculator: Any, structures: Sequence[Any]) -> list[Outcome]:
    """Outcomes of structures from one batch; none where it fails."""
    if len(structures) < 2:
        return []
    before = state_of_sign(calculator)
    try:
        with unused_labels_told():
            return [
                (wanted(results), state_of_sign(calculator))
                for results in results_together(calculator, structures)
            ]
    except Exception as error:
        logger.debug("%d structures are evaluated one by one: %s", len(structures), error)
        restore_sign(calculator, before)
        return []


def _results(calculator: Any, atoms: Any) -> dict[str, Any]:
    with unused_labels_told():
        calculator.calculate(atoms)
    return wanted(calculator.results)
