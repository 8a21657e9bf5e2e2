"""The structure that a run begins with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from les.data.atoms import STATE
from les.data.bare import bare


def described(atoms: Any, used: Iterable[str] = ()) -> dict[str, Any]:
    """What the motion of a structure depends on, by which a run tells whether it is its own.

    Args:
        atoms: the structure, ``ase.Atoms``.
        used: names of entries and arrays that the model reads, beside those of the state.

    Returns:
        Plain values, which are alike for the same structure and come back from JSON as they were.
    """
    from ase.io.jsonio import encode

    names = sorted({*STATE, *used})
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell[:].tolist(),
        "pbc": atoms.pbc.tolist(),
        "masses": atoms.get_masses().tolist(),
        "momenta": atoms.get_momenta().tolist() if atoms.has("momenta") else None,
        "constraints": [[type(each).__name__, encode(each.todict())] for each in atoms.constraints],
        "entries": {name: encode(atoms.info[name]) for name in names if name in atoms.info},
        "arrays": {
            name: np.asarray(atoms.arrays[name]).tolist() for name in names if name in atoms.arrays
        },
    }


def without_labels(atoms: Any, used: Iterable[str] = ()) -> Any:
    """The structure alone, since labels of where a run begins are none of what it comes to.

    Kept are atoms with their masses, momenta and constraints, the cell, and the state.

    Args:
        atoms: the structure, ``ase.Atoms``.
        used: names of entries and arrays that the model reads, beside those of the state.
    """
    return bare(atoms, ("masses", "momenta", *used), constraints=True)
