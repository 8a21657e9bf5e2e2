"""Configurations that are far from one another, chosen among many that are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.distillation.configurations import ORIGIN
from les.distillation.descriptor import descriptors
from les.distillation.settings import SelectionSettings

#: Distance of descriptors below which two structures are the same.
SAME = 1e-9


def farthest_points(
    points: NDArray[np.float64], count: int, generator: np.random.Generator
) -> list[int]:
    """Points that are chosen one after the other, each farthest from those before.

    Args:
        points: ``[n, dimension]``.
        count: how many are chosen; fewer if the others are copies of those chosen.
        generator: of the first point.

    Returns:
        Their numbers, in the order in which they were chosen.
    """
    if len(points) == 0:
        return []
    chosen = [int(generator.integers(len(points)))]
    distances = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        farthest = int(np.argmax(distances))
        if distances[farthest] <= SAME:
            break
        chosen.append(farthest)
        distances = np.minimum(distances, np.linalg.norm(points - points[farthest], axis=1))
    return chosen


def select(structures: list[Any], settings: SelectionSettings, seed: int) -> list[int]:
    """The numbers of the configurations to label, in the order in which they come.

    Frames of scans are all kept: they differ at distances that no descriptor sees.

    Args:
        structures: configurations with their origin.
        settings: how many of the others are kept.
        seed: decides, with the structures, which.
    """
    kept = [n for n, atoms in enumerate(structures) if atoms.info.get(ORIGIN) == "scan"]
    others = sorted(set(range(len(structures))) - set(kept))
    if settings.count is None or not others:
        return list(range(len(structures)))
    points = descriptors([structures[n] for n in others], settings.cutoff)
    chosen = farthest_points(points, settings.count, np.random.default_rng(seed))
    return sorted([*kept, *(others[n] for n in chosen)])
