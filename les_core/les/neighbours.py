"""Pairs of atoms within a cutoff, which are searched for once in many steps (Verlet lists).

L. Verlet, Phys. Rev. 159, 98 (1967): pairs are searched for up to the cutoff and a skin. Until two
atoms together may have come closer by the skin, all pairs within the cutoff are among those found,
and their distances say which. What is handed out does not depend on when the last search was: pairs
are sorted. Without a skin they come in the order of the search, as upstream has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.ranges import is_number

#: How far pairs are searched for beyond the cutoff [A], and the largest skin there may be.
SKIN, LARGEST_SKIN = 1.0, 10.0

Integers = NDArray[np.int64]

#: Finds the pairs within a radius [A]: first and second atoms ``[n_pairs]``, and images
#: ``[n_pairs, 3]``, as in :class:`Pairs`, in any order.
Search = Callable[[float], tuple[NDArray, NDArray, NDArray]]


class Places(NamedTuple):
    """Where the atoms of a structure are.

    Attributes:
        positions: ``[n_atoms, 3]`` [A].
        cell: vectors in rows ``[3, 3]`` [A]; along open axes they mean nothing.
        pbc: along which axes the structure is periodic ``[3]``, boolean.
    """

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]


class Pairs(NamedTuple):
    """Pairs of atoms within a cutoff, in both directions, with a skin sorted by atoms and images.

    Attributes:
        first, second: atoms ``[n_pairs]``.
        images: ``[n_pairs, 3]``; the vector of a pair is
            ``positions[second] - positions[first] + images @ cell``.
        distances: ``[n_pairs]`` [A].
    """

    first: Integers
    second: Integers
    images: Integers
    distances: NDArray[np.float64]


class VerletList:
    """The pairs of a structure, which are searched for when atoms have moved by half of the skin.

    A search takes the skin only if the structure is one step from the one before, so single
    structures cost hardly more than without it. Atoms that are wrapped, or moved by cell vectors in
    any other way, have not moved. Where all axes are periodic the cell may change, too: pairs are
    searched for when the strain and the motion that is left may have brought one into the cutoff.

    Args:
        skin: how far pairs are searched for beyond the cutoff [A]; 0 to search in every step.

    Attributes:
        skin: as given.
        n_searches: how often pairs have been searched for.

    Raises:
        ValueError: for a skin that is no number from 0 to :data:`LARGEST_SKIN`.
    """

    def __init__(self, skin: float = SKIN) -> None:
        if not is_number(skin) or not 0.0 <= skin <= LARGEST_SKIN:
            raise ValueError(f"`skin` must be a number from 0 to {LARGEST_SKIN:g} A, got {skin!r}")
        self.skin = float(skin)
        self.n_searches = 0
        # Replaced as a whole, so that threads do not see parts of it.
        self._found: _Found | None = None
        self._latest: Places | None = None

    def pairs(self, places: Places, cutoff: float, search: Search) -> Pairs:
        """All pairs closer than a cutoff.

        Args:
            places: where the atoms are; finite, and with cell vectors along periodic axes.
            cutoff: radius [A].
            search: finds the pairs within a radius at these places.
        """
        found, latest = self._found, self._latest
        self._latest = places = Places(
            np.array(places.positions), np.array(places.cell), np.array(places.pbc)
        )
        if found is not None and found.cutoff == cutoff and self.skin > 0.0:
            motion = motion_between(found.places, places)
            if motion is not None and motion.keeps(found.radius, cutoff):
                return found.within_cutoff(places, motion)
        motion = None if latest is None or self.skin == 0.0 else motion_between(latest, places)
        in_steps = motion is not None and motion.keeps(cutoff + self.skin, cutoff)
        radius = cutoff + self.skin if in_steps else cutoff
        self.n_searches += 1
        self._found = found = _Found.of(places, cutoff, radius, search, self.skin > 0.0)
        return found.within_cutoff(places, AT_REST)


class Motion(NamedTuple):
    """How atoms have moved.

    Attributes:
        turns: by how many cell vectors ``[n_atoms, 3]``, ``None`` if no atom has.
        farthest: the longest way of an atom beside that, and beside the strain of the cell [A].
        contraction: the smallest factor by which the strain of the cell changes a length.
        strained: whether the cell has changed.
    """

    turns: Integers | None
    farthest: float
    contraction: float
    strained: bool

    def keeps(self, radius: float, cutoff: float) -> bool:
        """Whether pairs within ``cutoff`` now were within ``radius`` before.

        A pair at a distance ``d`` is now at least ``contraction * d - 2 * farthest`` apart.
        """
        return self.contraction * radius - 2.0 * self.farthest >= cutoff


AT_REST = Motion(None, 0.0, 1.0, False)


def motion_between(before: Places, after: Places) -> Motion | None:
    """How the atoms of a structure have moved; ``None`` for another structure.

    That is one with another number of atoms or periodic axes, or, unless all are periodic, with
    other vectors along these.
    """
    if len(before.positions) != len(after.positions) or (before.pbc != after.pbc).any():
        return None
    periodic = after.pbc
    strained = bool((before.cell[periodic] != after.cell[periodic]).any())
    if strained and not periodic.all():
        return None
    start, contraction = before.positions, 1.0
    if strained:
        gradient = np.linalg.solve(before.cell, after.cell)
        start = start @ gradient
        contraction = float(np.linalg.svd(gradient, compute_uv=False)[-1])
    moved = after.positions - start
    vectors, turns = after.cell[periodic], None
    shortest = min(np.linalg.norm(vectors, axis=1), default=np.inf)
    if 2.0 * _longest(moved) > shortest:
        turns = np.zeros(moved.shape, dtype=np.int64)
        turns[:, periodic] = np.rint(moved @ np.linalg.pinv(vectors))
        moved = moved - turns @ after.cell
    return Motion(turns, _longest(moved), contraction, strained)


def _longest(vectors: NDArray[np.float64]) -> float:
    """The length of the longest of ``[n, 3]``."""
    return float(np.sqrt(np.einsum("ia,ia->i", vectors, vectors).max()))


class _Found(NamedTuple):
    """What a search has found.

    Attributes:
        places: where the atoms were.
        cutoff, radius: of the pairs that are asked for, and of the search [A].
        first, second, images: the pairs within the radius, as in :class:`Pairs`.
        shifts: ``images @ cell``, by component ``[3, n_pairs]`` [A].
    """

    places: Places
    cutoff: float
    radius: float
    first: Integers
    second: Integers
    images: Integers
    shifts: NDArray[np.float64]

    @classmethod
    def of(
        cls, places: Places, cutoff: float, radius: float, search: Search, in_order: bool
    ) -> _Found:
        """Search for the pairs within ``radius``, and sort them if they are to be ``in_order``."""
        first, second, images = (np.asarray(each, dtype=np.int64) for each in search(radius))
        if in_order:
            order = _sorting(first, second, images, len(places.positions))
            first, second = first.take(order), second.take(order)
            images = images.take(order, axis=0)
        return cls(places, cutoff, radius, first, second, images, _shifts(images, places.cell))

    def within_cutoff(self, places: Places, motion: Motion) -> Pairs:
        """The pairs within the cutoff at ``places``, where atoms have come by ``motion``."""
        first, second, images, shifts = self.first, self.second, self.images, self.shifts
        if motion.turns is not None:
            # The same for all images of a pair of atoms, so that they stay sorted.
            images = images + motion.turns[first] - motion.turns[second]
        if motion.strained or motion.turns is not None:
            shifts = _shifts(images, places.cell)
        squares = np.zeros(len(first))
        for positions, shift in zip(np.ascontiguousarray(places.positions.T), shifts, strict=True):
            component = positions.take(second)
            component -= positions.take(first)
            component += shift
            component *= component
            squares += component
        kept = np.flatnonzero(squares < self.cutoff**2)
        return Pairs(
            first.take(kept),
            second.take(kept),
            images.take(kept, axis=0),
            np.sqrt(squares.take(kept)),
        )


def _shifts(images: Integers, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors to images ``[n_pairs, 3]``, by component ``[3, n_pairs]`` [A]."""
    return np.asarray(cell.T @ images.T.astype(np.float64))


def _sorting(first: Integers, second: Integers, images: Integers, n_atoms: int) -> Integers:
    """The order of pairs by atoms and images."""
    if len(first) == 0:
        return first
    columns = np.ascontiguousarray(images.T)
    lowest = columns.min(axis=1, keepdims=True)
    widths = (columns.max(axis=1) - lowest[:, 0] + 1).tolist()
    if n_atoms**2 * math.prod(widths) > np.iinfo(np.int64).max:  # of atoms that are far away
        return np.lexsort((*columns[::-1], second, first))
    number = first * n_atoms + second
    for column, width in zip(columns - lowest, widths, strict=True):
        number = number * width + column
    return np.argsort(number, kind="stable")  # the fast way: it is nearly sorted
