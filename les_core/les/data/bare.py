"""A structure without its labels: atoms, their places, and the state that they are in."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from les.data.atoms import STATE


def bare(atoms: Any, further: Iterable[str] = (), *, constraints: bool = False) -> Any:
    """A copy that has nothing of what was computed for the structure.

    Kept are elements, positions, the cell, and what asks for a state: total charge, spin, field and
    fragments (``les.data.atoms.STATE``). A calculator that cannot use one of them says so.

    Args:
        atoms: the structure, ``ase.Atoms``.
        further: names of entries of ``atoms.info``, and of arrays such as ``"masses"`` and
            ``"momenta"``, that are kept as well where there are such.
        constraints: keep the constraints of atoms.
    """
    from ase import Atoms

    alone = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in dict.fromkeys((*STATE, *further)):
        if name in atoms.info:
            alone.info[name] = copy.deepcopy(atoms.info[name])
        if name in atoms.arrays:
            alone.set_array(name, atoms.arrays[name])
    if constraints:
        alone.set_constraint(copy.deepcopy(atoms.constraints))
    return alone
