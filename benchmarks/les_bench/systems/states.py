"""The charge state of a structure, the only thing besides its atoms that a model is shown."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from les.data.spin import SPIN_NAMES
from les.data.total_charge import TOTAL_CHARGE_NAMES, total_charge


def charge_state(atoms: Atoms) -> dict[str, Any]:
    """The entries of ``atoms.info`` that say total charge and spin."""
    names = (*TOTAL_CHARGE_NAMES, *SPIN_NAMES)
    return {name: atoms.info[name] for name in names if name in atoms.info}


def repeated_state(atoms: Atoms, n: int) -> dict[str, Any]:
    """The same of ``n`` such structures side by side, with ``n`` times the total charge."""
    state = charge_state(atoms)
    charged = {name: n * total_charge(atoms) for name in TOTAL_CHARGE_NAMES if name in state}
    return {**state, **charged}
