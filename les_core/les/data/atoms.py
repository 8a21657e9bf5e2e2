"""Validation of an ASE ``Atoms`` object before a model sees it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE

logger = logging.getLogger("les")

#: Smallest volume of a cell that counts as one [A^3].
SMALLEST_VOLUME = 1e-6

#: Numbers of periodic axes: with LES, and without it.
LONG_RANGE_AXES, ANY_AXES = (0, 2, 3), (0, 1, 2, 3)


def check_atoms(atoms: Any, axes: Collection[int] = LONG_RANGE_AXES) -> None:
    """Refuse a structure on which no model can give a meaningful result.

    Args:
        atoms: ``ase.Atoms``.
        axes: numbers of periodic axes that are accepted.

    Raises:
        ValueError: for no atoms, positions or a cell that are not finite, another number of
            periodic axes, a periodic structure without a cell, and atoms at the same place.
            The message names the first atom, or the pair, concerned.
    """
    if len(atoms) == 0:
        raise ValueError("the structure must have atoms, got none")
    finite = np.isfinite(atoms.positions).all(axis=1)
    if not finite.all():
        atom = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"positions must be finite, got {atoms.positions[atom].tolist()} for atom {atom}"
        )
    if not np.isfinite(atoms.cell[:]).all():
        raise ValueError(f"the cell must be finite, got {atoms.cell[:].tolist()}")
    n_axes = int(atoms.pbc.sum())
    if n_axes not in axes:
        *first, last = map(str, sorted(axes))
        hint = "; for a slab with enough vacuum set pbc to true" if n_axes == 2 else ""
        raise ValueError(
            f"pbc must have {', '.join(first)} or {last} axes true, got {atoms.pbc.tolist()}{hint}"
        )
    vectors = np.array(atoms.cell[:])
    if n_axes == 2:  # the third may be missing
        normal = np.cross(*vectors[atoms.pbc])
        vectors[~atoms.pbc] = normal / max(1e-12, np.linalg.norm(normal))
    if n_axes >= 2 and abs(np.linalg.det(vectors)) < 1e-6:
        raise ValueError(
            f"a periodic structure needs a cell, got {atoms.cell[:].tolist()} with pbc "
            f"{atoms.pbc.tolist()}"
        )
    places = atoms.positions
    if n_axes >= 2:  # rounded before wrapping, so that 0.9999999 and 0 are one place
        places = np.linalg.solve(vectors.T, atoms.positions.T).T.round(6)
        places[:, atoms.pbc] %= 1.0
    _, first, inverse = np.unique(places.round(6), axis=0, return_index=True, return_inverse=True)
    earliest = first[inverse.reshape(-1)]
    repeated = np.flatnonzero(earliest != np.arange(len(atoms)))
    if len(repeated) > 0:
        atom = int(repeated[0])
        raise ValueError(
            f"atoms {int(earliest[atom])} and {atom} are at the same place, "
            f"{atoms.positions[atom].tolist()}"
        )


def check_elements(atoms: Any, known: Iterable[int]) -> None:
    """Refuse elements that a model does not know.

    Args:
        atoms: ``ase.Atoms``.
        known: atomic numbers of the elements that the model knows.

    Raises:
        ValueError: naming the known and the unknown elements.
    """
    unknown = set(atoms.numbers.tolist()) - set(known)
    if unknown:
        raise ValueError(f"the model knows the elements {_symbols(known)}, got {_symbols(unknown)}")


#: Distance from the origin at which positions in single precision lose the seventh digit of the
#: shortest bonds [A].
_FAR = 100.0


def centred(atoms: Any) -> Any:
    """``atoms``, or if they are far from the origin a copy with their mean position there.

    For models in single precision: they round positions, and differences of positions are what
    energy, forces and charges depend on. Not for dipoles of charges that do not sum to zero.

    Args:
        atoms: ``ase.Atoms``.
    """
    mean = atoms.positions.mean(axis=0)
    if np.abs(mean).max() <= _FAR:
        return atoms
    moved = atoms.copy()
    moved.positions -= mean
    return moved


def _symbols(numbers: Iterable[int]) -> str:
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[number] for number in sorted(numbers))


def spanning_cell(atoms: Any) -> NDArray[np.float64]:
    """The cell ``[3, 3]`` [A] of a structure, without vectors that lie in the plane of others.

    A vector along an open axis means nothing, but searches for neighbours invert the cell: where
    it has no volume, such vectors are zero here, which they all take for missing.
    """
    cell: NDArray[np.float64] = np.array(atoms.cell[:], dtype=np.float64)
    if abs(float(np.linalg.det(cell))) <= SMALLEST_VOLUME:
        cell[~np.asarray(atoms.pbc)] = 0.0
    return cell


def has_stress(atoms: Any) -> bool:
    """Whether ``ase.Atoms`` have a stress: a periodic axis, and a cell with a volume."""
    volume = abs(float(np.linalg.det(atoms.cell[:])))
    return bool(atoms.pbc.any()) and volume > SMALLEST_VOLUME


#: Entries of ``Atoms.info``, and arrays, that ask for another state, with their usual values.
STATE = {
    "total_charge": (0,),
    "charge": (0,),
    "total_spin": (0, 1),
    "spin": (0, 1),
    "electric_field": (0,),
    "external_field": (0,),
    FRAGMENT: (0,),
    FRAGMENT_CHARGE: (0,),
}


#: Those of them that are arrays.
_OF_ATOMS = (FRAGMENT, FRAGMENT_CHARGE)


def labels_without_effect(atoms: Any) -> dict[str, Any]:
    """What a structure says about its state that models cannot use, such as a total charge.

    Args:
        atoms: ``ase.Atoms``.

    Returns:
        Name -> value, of entries of ``atoms.info``, and of arrays of fragments, with other than the
        usual value (0; for spins also 1).
    """
    given = {**atoms.info, **{x: atoms.arrays[x] for x in _OF_ATOMS if x in atoms.arrays}}
    return {
        name: given[name]
        for name, usual in STATE.items()
        if given.get(name) is not None and not _is_usual(given[name], usual)
    }


def _is_usual(value: Any, usual: tuple[int, ...]) -> bool:
    try:
        return bool(np.isin(np.asarray(value, dtype=float), usual).all())
    except (TypeError, ValueError):  # text, for instance
        return False


class UnusedLabelWarning(UserWarning):
    """A structure has a label that :func:`labels_without_effect` names and its model cannot use."""


@contextlib.contextmanager
def unused_labels_told() -> Iterator[None]:
    """Silence :class:`UnusedLabelWarning` where :class:`UnusedLabels` tells of a whole file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedLabelWarning)
        yield


class UnusedLabels:
    """Counts structures with labels that have no effect, to say so once for a whole file.

    Args:
        used: names of labels that the model can use.
    """

    def __init__(self, used: Collection[str] = ()) -> None:
        self.used = used
        self.n_structures = 0
        self.counts: Counter[str] = Counter()

    def add(self, atoms: Any) -> None:
        """Count the labels of one structure that :func:`labels_without_effect` names."""
        self.n_structures += 1
        self.counts.update(name for name in labels_without_effect(atoms) if name not in self.used)

    def warn(self, path: Any) -> None:
        """Log one warning for each label that structures of the file ``path`` have."""
        for name, count in self.counts.items():
            logger.warning(
                "%d of %d structures of %s have a %s other than %s, which this model cannot use: "
                "it has no effect",
                count,
                self.n_structures,
                path,
                name,
                " or ".join(map(str, STATE[name])),
            )
