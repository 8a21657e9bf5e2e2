"""What an atom is bonded to, as a short name such as ``O(H2)``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from les.data.bonds import bonded_pairs


def environments(atoms: Any) -> list[str]:
    """Element and bonded neighbours of each atom: ``O(H2)`` in water, ``C(CH2N)`` in glycine.

    Two atoms are bonded if their distance is less than the sum of their covalent radii
    (``ase.data.covalent_radii``) and ``les.data.bonds.TOLERANCE``. Neighbours are counted in
    alphabetical order, each image of a periodic structure by itself; an atom without any is
    ``Na()``. The covalent radii of metals are those of neutral atoms, so that cations of an oxide
    may count one another.

    Args:
        atoms: the structure, ``ase.Atoms``, of any periodicity.
    """
    symbols = atoms.get_chemical_symbols()
    bonded: list[Counter[str]] = [Counter() for _ in symbols]
    for atom, neighbour in zip(*bonded_pairs(atoms), strict=True):
        bonded[atom][symbols[neighbour]] += 1
    return [_name(symbol, found) for symbol, found in zip(symbols, bonded, strict=True)]


def _name(symbol: str, bonded: Counter[str]) -> str:
    parts = (f"{name}{count if count > 1 else ''}" for name, count in sorted(bonded.items()))
    return f"{symbol}({''.join(parts)})"
