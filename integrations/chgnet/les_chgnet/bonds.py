"""Bonds and angles of crystal graphs, from pairs of atoms, in arrays.

Upstream makes an object in Python of every bond, which takes longer than the model itself. The
graphs that are made here are the same, in the same order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of atoms within a cutoff, in both directions.

    Attributes:
        centre, neighbour: atoms ``[n_pairs]``.
        images: cells that the neighbours are in ``[n_pairs, 3]``.
        distances: ``[n_pairs]`` [A].
    """

    centre: Indices
    neighbour: Indices
    images: Indices
    distances: NDArray[Any]


def undirected(pairs: Pairs, n_atoms: int) -> tuple[Indices, Indices]:
    """Which pairs are the two directions of one bond.

    Args:
        pairs: those of a structure.
        n_atoms: its number of atoms.

    Returns:
        The bond of each pair ``[n_pairs]``, in the order in which they come first, and the first
        pair of each bond ``[n_bonds]``.

    Raises:
        ValueError: if a pair lacks the opposite direction, or if there are so many atoms, or images
            so far away, that pairs cannot be numbered.
    """
    centre, neighbour, images, _ = pairs
    # The opposite direction has the opposite image: along each axis the lowest is the negative.
    lowest = -np.abs(images).max(axis=0, initial=0)
    widths = [1 - 2 * int(low) for low in lowest]
    if n_atoms**2 * math.prod(widths) > np.iinfo(np.int64).max:
        raise ValueError(
            f"neighbours must be in cells close by, got some {(-lowest).tolist()} cells away in "
            f"a structure of {n_atoms} atoms; wrap the atoms into the cell"
        )

    def code(start: Indices, end: Indices, image: Indices) -> Indices:
        number = start * n_atoms + end
        for axis, width in enumerate(widths):
            number = number * width + image[:, axis] - lowest[axis]
        return number

    one_way, back = code(centre, neighbour, images), code(neighbour, centre, -images)
    _, first, bond, count = np.unique(
        np.minimum(one_way, back), return_index=True, return_inverse=True, return_counts=True
    )
    if (count != 2).any():
        pair = int(first[count != 2][0])
        raise ValueError(
            f"every bond must have two directions, got {int(count[count != 2][0])} of that from "
            f"atom {centre[pair]} to atom {neighbour[pair]}, {pairs.distances[pair]:g} A away"
        )
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[bond.reshape(-1)], first[order]


def angles(pairs: Pairs, n_atoms: int, bond: Indices, first: Indices, cutoff: float) -> Indices:
    """Angles between bonds of one atom that are shorter than ``cutoff`` [A].

    Args:
        pairs: those of a structure.
        n_atoms: its number of atoms.
        bond, first: as :func:`undirected` gives them.
        cutoff: longest bonds [A].

    Returns:
        ``[n_angles, 5]``: the atom, and of either side the bond and the pair that begins at the
        atom. They are sorted by the bond of the first side; second sides to images of one neighbour
        follow one another.
    """
    left = np.flatnonzero(pairs.distances[first][bond] <= cutoff)
    left = left[np.argsort(bond[left], kind="stable")]
    right = np.flatnonzero(pairs.distances < cutoff)
    _, came, which = np.unique(
        pairs.centre * n_atoms + pairs.neighbour, return_index=True, return_inverse=True
    )
    right = right[np.lexsort((right, came[which.reshape(-1)][right], pairs.centre[right]))]
    begin, end = (
        np.searchsorted(pairs.centre[right], pairs.centre[left], side) for side in ("left", "right")
    )
    count = end - begin
    side = np.repeat(left, count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    other = right[np.repeat(begin, count) + within]
    side, other = side[side != other], other[side != other]
    columns = (pairs.centre[side], bond[side], side, bond[other], other)
    return np.stack(columns, axis=1)
