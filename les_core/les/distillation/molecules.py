"""Molecules within a structure: which atoms are bonded, and moving them as a whole."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.data.bonds import bond_vectors


def whole_molecules(atoms: Any) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]] | None:
    """The molecules of a structure, each whole; what is bonded, ``les.data.bonds`` decides.

    Args:
        atoms: ``ase.Atoms`` of any periodicity.

    Returns:
        Of each molecule its atoms ``[n]`` and their positions ``[n, 3]`` [A], which may be outside
        the cell, so that bonded atoms are beside one another. ``None`` if a chain of bonds leads
        to a periodic image of where it began, as in a crystal of ions or a metal: there are no
        molecules then.
    """
    first, second, vectors = bond_vectors(atoms)
    bonds: list[list[tuple[int, NDArray[np.float64]]]] = [[] for _ in atoms]
    for i, j, vector in zip(first, second, vectors, strict=True):
        bonds[i].append((int(j), vector))
    places: dict[int, NDArray[np.float64]] = {}
    found = []
    for start in range(len(atoms)):
        if start in places:
            continue
        places[start] = atoms.positions[start]
        members, queue = [start], deque([start])
        while queue:
            atom = queue.popleft()
            for neighbour, vector in bonds[atom]:
                place = places[atom] + vector
                if neighbour not in places:
                    places[neighbour] = place
                    members.append(neighbour)
                    queue.append(neighbour)
                elif np.abs(places[neighbour] - place).max() > 1e-6:
                    return None
        members.sort()
        found.append((np.array(members), np.array([places[each] for each in members])))
    return found


def at_density(atoms: Any, factor: float) -> Any:
    """A copy of a periodic structure whose density is ``factor`` times as large.

    The cell and the centres of its molecules are scaled; molecules stay as they are. Where there
    are none, all positions are scaled.

    Args:
        atoms: ``ase.Atoms`` with three periodic axes, or any with a factor of 1.
        factor: ratio of the densities.

    Raises:
        ValueError: for another density of a structure that does not have three periodic axes.
    """
    scaled = atoms.copy()
    if factor == 1.0:
        return scaled
    if not atoms.pbc.all():
        raise ValueError(
            f"a structure with pbc {atoms.pbc.tolist()} has no density to multiply by {factor:g}"
        )
    length = factor ** (-1.0 / 3.0)
    parts = whole_molecules(atoms)
    scaled.set_cell(atoms.cell * length, scale_atoms=parts is None)
    for members, positions in parts or []:
        centre = positions.mean(axis=0)
        scaled.positions[members] = positions + (length - 1.0) * centre
    return scaled
