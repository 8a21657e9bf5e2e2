"""Grids and meshes that would not fit in memory are refused; TorchScript compiles this, too."""

from __future__ import annotations

import math

#: Points of the largest grid or mesh: 4 GB for each array of float64.
MOST_POINTS = 2**29


def check_grid(extent: list[int], n_structures: int, dl: float, most: int = MOST_POINTS) -> None:
    """A grid, with numbers up to ``extent`` along lattice vectors, must fit in memory."""
    points = float(n_structures)
    for n in extent:
        # More than integers can count are negative.
        points *= 2.0 * float(n) + 1.0 if n >= 0 else math.inf
    if points > float(most):
        lengths = [dl * n for n in extent]
        where = f"`dl` = {dl}, with lattice vectors of up to {lengths} A"
        raise ValueError(too_many_points(points, where, n_structures))


def too_many_points(points: float, where: str, n_structures: int) -> str:
    """The message where the ``points`` of grids or meshes do not fit in memory."""
    return (
        f"`cell` is too large for {where}: {points} points in {n_structures} structures. "
        "Molecules need no cell; the one of a slab is twice as high as the slab, from which "
        "an atom may have left"
    )
