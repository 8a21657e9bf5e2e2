"""The external electric field of a structure, where a file or a program has written it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger("les")

#: Entries of ``Atoms.info`` that may hold it [V/A].
FIELD_KEYS = ("external_field", "electric_field")

#: A field of a larger component than this is none, or in other units [V/A]. Atoms are ionised in
#: fields of some V/A.
LARGEST_FIELD = 100.0


def external_field(atoms: Any, *further: str) -> NDArray[np.float64]:
    """The field of a structure [V/A], from one of :data:`FIELD_KEYS` in ``atoms.info``.

    Args:
        atoms: ``ase.Atoms``.
        further: names of entries that may hold it as well.

    Returns:
        ``[3]``; zero of a structure that says nothing.

    Raises:
        ValueError: for what is not three finite numbers, is out of all proportion, or differs
            between two entries. The message names the entry.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for name in dict.fromkeys((*FIELD_KEYS, *further)):
        if (value := atoms.info.get(name)) is not None:
            found[name] = _three_numbers(name, value)
    for name, field in found.items():
        first = next(iter(found))
        if not np.array_equal(field, found[first]):
            raise ValueError(
                f"{first} and {name} are two names of the external field, got "
                f"{found[first].tolist()} and {field.tolist()}"
            )
    return next(iter(found.values()), np.zeros(3))


def _three_numbers(name: str, value: Any) -> NDArray[np.float64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be three finite numbers, a field in V/A, got {value!r}")
    if np.abs(array).max() > LARGEST_FIELD:
        raise ValueError(f"{name} must be a field in V/A, got {array.tolist()}")
    field: NDArray[np.float64] = array.astype(np.float64)
    return field


def has_energy(atoms: Any, field: NDArray[np.float64]) -> bool:
    """Whether the energy of a structure in a ``field`` ``[3]`` [V/A] has one value.

    That of a periodic structure depends on the branch of its polarisation.
    """
    return not (bool(np.any(atoms.pbc)) and bool(np.any(field)))


class ExternalFields:
    """Counts the fields of the structures of one file, to say once what they are.

    Args:
        further: names of entries that may hold a field, beside the usual ones.
    """

    def __init__(self, *further: str) -> None:
        self.further = further
        self.n_structures = 0
        self.strengths: list[float] = []
        self.n_without_energy = 0

    def add(self, atoms: Any) -> NDArray[np.float64]:
        """The field of a structure ``[3]`` [V/A], which is counted.

        Raises:
            ValueError: as :func:`external_field`.
        """
        field = external_field(atoms, *self.further)
        self.n_structures += 1
        if field.any():
            self.strengths.append(float(np.linalg.norm(field)))
        self.n_without_energy += not has_energy(atoms, field)
        return field

    def tell(self, path: Any, forces: str = "trained on") -> None:
        """Log in what fields the structures of the file ``path`` are, if any is in one.

        Args:
            path: the file.
            forces: what is done with the forces of those that have no energy.
        """
        if self.strengths:
            logger.info(
                "%d of %d structures of %s are in an external field, of up to %.3g V/A",
                *(len(self.strengths), self.n_structures, path, max(self.strengths)),
            )
        if self.n_without_energy:
            logger.warning(
                "%d of %d structures of %s are periodic and in an external field: their energy "
                "depends on the branch of the polarisation and is left out, their forces are %s",
                *(self.n_without_energy, self.n_structures, path, forces),
            )
