"""The structure that a run begins with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from les.data.spin import SPIN_NAMES
from les.data.total_charge import TOTAL_CHARGE_NAMES


def described(atoms: Any) -> dict[str, Any]:
    """A structure as plain values, by which a run tells whether it is its own."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell[:].tolist(),
        "pbc": atoms.pbc.tolist(),
        "momenta": atoms.get_momenta().tolist() if atoms.has("momenta") else None,
        **{
            name: str(atoms.info[name])
            for name in (*TOTAL_CHARGE_NAMES, *SPIN_NAMES)
            if name in atoms.info
        },
    }


def without_labels(atoms: Any, used: Iterable[str] = ()) -> Any:
    """The structure alone, since labels of where a run begins are none of what it comes to.

    Kept are atoms with their masses, momenta and constraints, the cell, the total charge and the
    spin.

    Args:
        atoms: the structure, ``ase.Atoms``.
        used: names of further entries that the model reads.
    """
    from ase import Atoms

    bare = Atoms(
        atoms.numbers,
        atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        masses=atoms.get_masses() if atoms.has("masses") else None,
        momenta=atoms.get_momenta() if atoms.has("momenta") else None,
        constraint=atoms.constraints,
    )
    kept = {*TOTAL_CHARGE_NAMES, *SPIN_NAMES, *used}
    bare.info.update({name: value for name, value in atoms.info.items() if name in kept})
    return bare
