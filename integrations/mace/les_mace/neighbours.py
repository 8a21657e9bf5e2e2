"""Neighbour lists that leave the cell of a slab as it was given.

Along axes without periodicity mace-torch (0.3.16) searches for neighbours in a cell of its own,
whose length follows the atoms' coordinates, and hands that cell on to the model: the stress is then
divided by a volume that is not the structure's and that changes when the slab is moved, and vectors
of a slab that is not aligned with the coordinate axes may lie in one plane.

Its own models of long range read that cell, too, and are meant for it: only our calculator and our
training get the structure's own, within :func:`own_cells`. There our calculator also keeps the
neighbours from step to step.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from mace.data import atomic_data
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from les.data.atoms import SMALLEST_VOLUME
from les.neighbours import Places, VerletList

#: Pairs ``[2, n_pairs]``, their shifts ``[n_pairs, 3]`` [A] and in cell vectors, the cell [A].
Neighbourhood = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


class _Ours(NamedTuple):
    """How data are made for our calculator or our training: with ``kept`` neighbours, if any."""

    kept: VerletList | None


#: ``None`` where mace-torch does what it does by itself; each thread has a value of its own.
_ours: ContextVar[_Ours | None] = ContextVar("les_mace_own_cells", default=None)


def with_own_cell(get_neighborhood: Callable[..., Neighbourhood]) -> Callable[..., Neighbourhood]:
    """Upstream's ``get_neighborhood``, which within :func:`own_cells` gives slabs their own cell.

    The same goes for wires. Crystals are left to upstream, and so are open structures where no
    neighbours are kept. A cell that has no volume, because vectors along open axes are missing,
    gets unit vectors there.
    """

    @functools.wraps(get_neighborhood)
    def neighborhood(
        positions: NDArray[Any],
        cutoff: float,
        pbc: tuple[bool, bool, bool] | None = None,
        cell: NDArray[Any] | None = None,
        true_self_interaction: bool = False,
    ) -> Neighbourhood:
        ours = _ours.get()
        if ours is None or pbc is None or cell is None:
            return get_neighborhood(positions, cutoff, pbc, cell, true_self_interaction)
        periodic = np.array(pbc, dtype=bool)

        def search(radius: float) -> Neighbourhood:
            if sum(pbc) in (0, 3):  # upstream writes to the cell
                return get_neighborhood(positions, radius, pbc, cell.copy(), true_self_interaction)
            return _search_in_a_box(positions, radius, periodic, cell, true_self_interaction)

        if ours.kept is None:
            return search(cutoff)

        def pairs(radius: float) -> Any:
            edges, _, unit_shifts, _ = search(radius)
            return (*edges, unit_shifts)

        places = Places(positions, cell, periodic)
        sender, receiver, unit_shifts, _ = ours.kept.pairs(places, cutoff, pairs)
        own = _own_cell(cell, periodic)
        return np.stack((sender, receiver)), unit_shifts @ own, unit_shifts, own

    return neighborhood


def _search_in_a_box(
    positions: NDArray[Any],
    cutoff: float,
    periodic: NDArray[np.bool_],
    cell: NDArray[Any],
    true_self_interaction: bool,
) -> Neighbourhood:
    """Neighbours of a slab or a wire, in a cell that holds its atoms."""
    normals = _normals(cell, periodic)
    heights = positions @ normals.T
    lowest = heights.min(axis=0)
    lengths = heights.max(axis=0) - lowest + 2.0 * cutoff
    box = np.array(cell, dtype=float)
    box[~periodic] = lengths[:, None] * normals
    sender, receiver, unit_shifts = neighbour_list(
        quantities="ijS",
        pbc=periodic,
        cell=box,
        positions=positions + (cutoff - lowest) @ normals,
        cutoff=cutoff,
    )
    if not true_self_interaction:
        kept = (sender != receiver) | (unit_shifts != 0).any(axis=1)
        sender, receiver, unit_shifts = sender[kept], receiver[kept], unit_shifts[kept]
    own = _own_cell(cell, periodic)
    return np.stack((sender, receiver)), unit_shifts @ own, unit_shifts, own


def _own_cell(cell: NDArray[Any], periodic: NDArray[np.bool_]) -> NDArray[Any]:
    """The cell of a structure; unit vectors along open axes if it has no volume."""
    own = np.array(cell, dtype=float)
    if abs(np.linalg.det(own)) <= SMALLEST_VOLUME:
        own[~periodic] = _normals(own, periodic)
    return own


def _normals(cell: NDArray[Any], periodic: NDArray[np.bool_]) -> NDArray[Any]:
    """Directions normal to all periodic vectors, along which any cell that holds the atoms does."""
    normals: NDArray[Any] = np.linalg.svd(cell[periodic])[2][periodic.sum() :]
    return normals


@contextlib.contextmanager
def own_cells(kept: VerletList | None = None) -> Iterator[None]:
    """Let the data that mace-torch makes in this context come with their own cells.

    The neighbours are the same. Outside of this context, and in other threads, mace-torch does what
    it does by itself.

    Args:
        kept: neighbours that are kept from structure to structure, ``None`` to search for them.
    """
    if not hasattr(atomic_data.get_neighborhood, "__wrapped__"):
        atomic_data.get_neighborhood = with_own_cell(atomic_data.get_neighborhood)
    token = _ours.set(_Ours(kept))
    try:
        yield
    finally:
        _ours.reset(token)
