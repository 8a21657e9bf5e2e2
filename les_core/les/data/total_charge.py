"""The total charge of a structure, where a file or a program has written it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

logger = logging.getLogger("les")

#: Entries of ``Atoms.info`` that may hold it.
TOTAL_CHARGE_NAMES = ("charge", "total_charge")

#: Charges of more than this many elementary charges per atom are no charges [e].
MOST_PER_ATOM = 100.0


def total_charge(atoms: Any, *further: str) -> float:
    """Total charge of a structure [e], from one of :data:`TOTAL_CHARGE_NAMES` in ``atoms.info``.

    Args:
        atoms: ``ase.Atoms``.
        further: names of entries that may hold it as well.

    Returns:
        The charge; 0 of a structure that says nothing. It may be fractional.

    Raises:
        ValueError: for what is not one finite number, is out of all proportion to the number of
            atoms, or differs between two entries. The message names the entry.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys((*TOTAL_CHARGE_NAMES, *further)):
        value = atoms.info.get(name)
        if value is not None:
            found[name] = _number(name, value)
    for name, charge in found.items():
        if abs(charge) > MOST_PER_ATOM * max(len(atoms), 1):
            raise ValueError(f"{name} must be a total charge in e, got {charge:g}")
        first = next(iter(found))
        if charge != found[first]:
            raise ValueError(
                f"{first} and {name} are two names of the total charge, got {found[first]:g} and "
                f"{charge:g}"
            )
    return next(iter(found.values()), 0.0)


def is_fractional(charge: float) -> bool:
    """Whether a total charge is no whole number of elementary charges."""
    return abs(charge - round(charge)) > 1e-6


class TotalCharges:
    """Counts the total charges of the structures of one file, to say once what they are.

    Args:
        further: names of entries that may hold a total charge, beside the usual ones.
    """

    def __init__(self, *further: str) -> None:
        self.further = further
        self.n_structures = 0
        self.charged: list[float] = []

    def add(self, atoms: Any) -> float:
        """The total charge of a structure [e], which is counted.

        Raises:
            ValueError: as :func:`total_charge`.
        """
        charge = total_charge(atoms, *self.further)
        self.n_structures += 1
        if charge != 0.0:
            self.charged.append(charge)
        return charge

    def tell(self, path: Any) -> None:
        """Log what charges the structures of the file ``path`` have, if any has one."""
        if not self.charged:
            return
        logger.info(
            "%d of %d structures of %s have a total charge, from %+g to %+g e",
            *(len(self.charged), self.n_structures, path, min(self.charged), max(self.charged)),
        )
        n_fractional = sum(map(is_fractional, self.charged))
        if n_fractional:
            logger.warning(
                "%d of %d structures of %s have a fractional total charge, which is taken as it is",
                *(n_fractional, self.n_structures, path),
            )


def _number(name: str, value: Any) -> float:
    """``value`` as a finite number."""
    array = np.asarray(value)
    if array.ndim != 0:
        raise ValueError(
            f"{name} must be one number, the total charge in e, got an array of shape "
            f"{list(array.shape)}"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a number, the total charge in e, got {value!r}")
    charge = float(array)
    if not np.isfinite(charge):
        raise ValueError(f"{name} must be finite, the total charge in e, got {charge}")
    return charge
