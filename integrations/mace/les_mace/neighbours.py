"""Neighbour lists that leave the cell of a slab as it was given.

Along axes without periodicity mace-torch (0.3.16) searches for neighbours in a cell of its own,
whose length follows the atoms' coordinates, and hands that cell on to the model: the stress is then
divided by a volume that is not the structure's and that changes when the slab is moved, and vectors
of a slab that is not aligned with the coordinate axes may lie in one plane.

Its own models of long range read that cell, too, and are meant for it: only our calculator and our
training get the structure's own, within :func:`own_cells`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
from mace.data import atomic_data
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from les.data.atoms import SMALLEST_VOLUME

#: Pairs ``[2, n_pairs]``, their shifts ``[n_pairs, 3]`` [A] and in cell vectors, the cell [A].
Neighbourhood = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


#: Whether data are made for our calculator or our training; each thread has a value of its own.
_own_cells: ContextVar[bool] = ContextVar("les_mace_own_cells", default=False)


def with_own_cell(get_neighborhood: Callable[..., Neighbourhood]) -> Callable[..., Neighbourhood]:
    """Upstream's ``get_neighborhood``, which within :func:`own_cells` gives slabs their own cell.

    The same goes for wires. Crystals and open structures are left to upstream. A cell that has no
    volume, because vectors along open axes are missing, gets unit vectors there.
    """

    @functools.wraps(get_neighborhood)
    def neighborhood(
        positions: NDArray[Any],
        cutoff: float,
        pbc: tuple[bool, bool, bool] | None = None,
        cell: NDArray[Any] | None = None,
        true_self_interaction: bool = False,
    ) -> Neighbourhood:
        if not _own_cells.get() or pbc is None or cell is None or sum(pbc) in (0, 3):
            return get_neighborhood(positions, cutoff, pbc, cell, true_self_interaction)
        periodic = np.array(pbc, dtype=bool)
        # Directions normal to all periodic vectors, along which any cell that holds the atoms does.
        normals = np.linalg.svd(cell[periodic])[2][periodic.sum() :]
        heights = positions @ normals.T
        lowest = heights.min(axis=0)
        lengths = heights.max(axis=0) - lowest + 2.0 * cutoff
        box = np.array(cell, dtype=float)
        box[~periodic] = lengths[:, None] * normals
        sender, receiver, unit_shifts = neighbour_list(
            quantities="ijS",
            pbc=pbc,
            cell=box,
            positions=positions + (cutoff - lowest) @ normals,
            cutoff=cutoff,
        )
        if not true_self_interaction:
            kept = (sender != receiver) | (unit_shifts != 0).any(axis=1)
            sender, receiver, unit_shifts = sender[kept], receiver[kept], unit_shifts[kept]
        own = np.array(cell, dtype=float)
        if abs(np.linalg.det(own)) <= SMALLEST_VOLUME:
            own[~periodic] = normals
        return np.stack((sender, receiver)), unit_shifts @ own, unit_shifts, own

    return neighborhood


@contextlib.contextmanager
def own_cells() -> Iterator[None]:
    """Let the data that mace-torch makes in this context come with their own cells.

    The neighbours are the same. Outside of this context, and in other threads, mace-torch does what
    it does by itself.
    """
    if not hasattr(atomic_data.get_neighborhood, "__wrapped__"):
        atomic_data.get_neighborhood = with_own_cell(atomic_data.get_neighborhood)
    token = _own_cells.set(True)
    try:
        yield
    finally:
        _own_cells.reset(token)
