"""Labels that a frame has not, as upstream wants them, and where a frame keeps those it has."""

from __future__ import annotations

from typing import Any

import numpy as np
from nequip.data import AtomicDataDict

from les_nequip.keys import RESPONSE_FIELDS

#: Field -> what stands for it in a frame of ``n`` atoms that has none.
MISSING = {
    AtomicDataDict.TOTAL_ENERGY_KEY: lambda n: np.nan,
    AtomicDataDict.FORCE_KEY: lambda n: np.full((n, 3), np.nan),
    AtomicDataDict.STRESS_KEY: lambda n: np.full(6, np.nan),
    RESPONSE_FIELDS["bec"]: lambda n: np.full((n, 9), np.nan),
    RESPONSE_FIELDS["dipole"]: lambda n: np.full(3, np.nan),
}


def places(atoms: Any) -> list[dict[str, Any]]:
    """Where a frame may have a label."""
    return [atoms.info, atoms.arrays, atoms.calc.results if atoms.calc else {}]


def all_of(atoms: Any) -> dict[str, Any]:
    """All that a frame says, by name."""
    return {name: value for place in places(atoms) for name, value in place.items()}


def put(atoms: Any, name: str, value: Any) -> None:
    """Give a frame a label, with a row for each atom or one for all."""
    per_atom = np.ndim(value) > 1 and len(value) == len(atoms) and name not in atoms.info
    (atoms.arrays if per_atom else atoms.info)[name] = value
