"""The total charge of a structure, where a file or a program has written it."""

from __future__ import annotations

import logging
from typing import Any

from les.data.entries import one_number

logger = logging.getLogger("les")

#: Entries of ``Atoms.info`` that may hold it.
TOTAL_CHARGE_NAMES = ("charge", "total_charge")

#: Charges of more than this many elementary charges per atom are no charges [e].
MOST_PER_ATOM = 100.0


def total_charge(atoms: Any, *further: str, needed: bool = False) -> float:
    """Total charge of a structure [e], from one of :data:`TOTAL_CHARGE_NAMES` in ``atoms.info``.

    Args:
        atoms: ``ase.Atoms``.
        further: names of entries that may hold it as well.
        needed: whether the structure must say it.

    Returns:
        The charge; 0 of a structure that says nothing. It may be fractional.

    Raises:
        ValueError: for what is not one finite number, is out of all proportion to the number of
            atoms, or differs between two entries, and for a structure that does not say what is
            needed. The message names the entry.
    """
    found = one_number(atoms, (*TOTAL_CHARGE_NAMES, *further), "total charge in e")
    if found is None:
        if needed:
            raise ValueError(
                f"has no total charge (looked for {' or '.join(TOTAL_CHARGE_NAMES)}), which the "
                "model needs: charge=0 for a neutral structure"
            )
        return 0.0
    name, charge = found
    if abs(charge) > MOST_PER_ATOM * max(len(atoms), 1):
        raise ValueError(f"{name} must be a total charge in e, got {charge:g}")
    return charge


def is_fractional(charge: float) -> bool:
    """Whether a total charge is no whole number of elementary charges."""
    return abs(charge - round(charge)) > 1e-6


class TotalCharges:
    """Counts the total charges of the structures of one file, to say once what they are.

    Args:
        further: names of entries that may hold a total charge, beside the usual ones.
        needed: whether every structure must say its charge.
    """

    def __init__(self, *further: str, needed: bool = False) -> None:
        self.further, self.needed = further, needed
        self.n_structures = 0
        self.charged: list[float] = []

    def add(self, atoms: Any) -> float:
        """The total charge of a structure [e], which is counted.

        Raises:
            ValueError: as :func:`total_charge`.
        """
        charge = total_charge(atoms, *self.further, needed=self.needed)
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
