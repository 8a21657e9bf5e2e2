"""Statistics of numbers that come a few at a time and are not kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Atoms of which a picture can be made.
SAMPLE_SIZE = 20_000


@dataclass
class Spread:
    """Number, mean, standard deviation and range of numbers.

    Attributes:
        n: how many there have been.
        mean: their mean, 0 without any.
        squares: the sum of the squares of their deviations from it.
        lowest: the smallest.
        highest: the largest.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, values: NDArray[np.float64]) -> None:
        """Count some more, of any shape."""
        if values.size == 0:
            return
        total, mean = self.n + values.size, float(values.mean())
        step = mean - self.mean
        # Sums about means: those of squares alone would lose all digits of a narrow distribution.
        self.squares += float(np.square(values - mean).sum())
        self.squares += step**2 * self.n * values.size / total
        self.mean += step * values.size / total
        self.n = total
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))

    @property
    def deviation(self) -> float:
        """The standard deviation of these numbers, 0 without any."""
        return math.sqrt(self.squares / max(self.n, 1))

    @property
    def root_mean_square(self) -> float:
        """The root of the mean square, 0 without any."""
        return math.sqrt(self.mean**2 + self.squares / max(self.n, 1))


@dataclass
class Sample:
    """Rows drawn at random, all with the same probability, from those that come.

    Args:
        size: how many are kept at most.

    Attributes:
        rows: those that are kept.
        n_rows: how many there have been.
    """

    size: int = SAMPLE_SIZE
    rows: list[tuple[float, ...]] = field(default_factory=list)
    n_rows: int = 0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, *columns: NDArray[np.float64]) -> None:
        """Count some more rows, given as columns ``[n]``."""
        for row in zip(*(column.tolist() for column in columns), strict=True):
            self.n_rows += 1
            if len(self.rows) < self.size:
                self.rows.append(row)
            elif (place := int(self._random.integers(self.n_rows))) < self.size:
                self.rows[place] = row
