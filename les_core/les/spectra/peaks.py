"""Where the maxima of a spectrum are, and how well a trajectory tells."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.spectra.infrared import Spectrum


class Peak(NamedTuple):
    """A maximum of a spectrum.

    Attributes:
        wavenumber: [1/cm].
        error: standard error of the position from pieces of the trajectory [1/cm]; NaN where it is
            too short to be divided.
        intensity: in the unit of the spectrum.
    """

    wavenumber: float
    error: float
    intensity: float


def peaks(spectrum: Spectrum, prominence: float = 0.03, absorption: bool = False) -> list[Peak]:
    """The maxima that rise above the valleys beside them by more than a part of the highest.

    In each piece of the trajectory, a peak is the highest point between the valleys beside it.

    Args:
        spectrum: the spectrum.
        prominence: the part.
        absorption: look at the absorption coefficient, rather than at that times the refractive
            index, whose maxima lie lower.
    """
    heights, grid = spectrum.intensity, spectrum.wavenumber
    pieces = spectrum.pieces
    if absorption:
        heights = spectrum.absorption
        pieces = spectrum.by_index(pieces)
    found = []
    for top, left, right in between_neighbours(heights, maxima(heights, prominence)):
        error = math.nan
        if len(pieces) > 1:
            tops = grid[left + pieces[:, left : right + 1].argmax(axis=1)]
            error = float(tops.std(ddof=1)) / math.sqrt(len(tops))
        found.append(Peak(float(grid[top]), error, float(heights[top])))
    return found


def between_neighbours(
    heights: NDArray[np.float64], tops: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """What :func:`maxima` gives, with the valleys towards the next maxima on both sides.

    The valley that a maximum rises above may lie beyond lower maxima.
    """
    places = [top for top, _, _ in tops]
    found = []
    for number, (top, left, right) in enumerate(tops):
        if number > 0:
            before = places[number - 1]
            left = before + int(heights[before : top + 1].argmin())
        if number + 1 < len(tops):
            right = top + int(heights[top : places[number + 1] + 1].argmin())
        found.append((top, left, right))
    return found


def maxima(heights: NDArray[np.float64], prominence: float) -> list[tuple[int, int, int]]:
    """Places of maxima, and of the valleys on their left and right.

    Args:
        heights: ``[n]``, along a rising grid.
        prominence: part of the highest that they must rise above the higher valley.
    """
    least = prominence * heights.max(initial=0.0)
    found = []
    inner = np.flatnonzero((heights[1:-1] > heights[:-2]) & (heights[1:-1] >= heights[2:])) + 1
    for top in inner:
        higher = np.flatnonzero(heights > heights[top])
        start = int(higher[higher < top].max(initial=-1)) + 1
        end = int(higher[higher > top].min(initial=len(heights)))
        left = start + int(heights[start : top + 1].argmin())
        right = int(top) + int(heights[top:end].argmin())
        if heights[top] - max(heights[left], heights[right]) > least:
            found.append((int(top), left, right))
    return found
