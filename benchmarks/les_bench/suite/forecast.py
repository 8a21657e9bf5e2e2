"""How long a suite will take, judged by what was done of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from les_bench.suite import results
from les_bench.suite.cell import Cell


class _Kind(NamedTuple):
    """Trainings that take about as long as one another."""

    system: str
    model: str


class Forecast:
    """Time that is left, from the times that trainings of the same kind took.

    Args:
        jobs: number of trainings at the same time.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        #: Name -> time when it began [s].
        self.started: dict[str, float] = {}
        self._taken: dict[_Kind, list[float]] = {}

    def began(self, name: str) -> None:
        """A training begins now."""
        self.started[name] = time.monotonic()

    def learn(self, cell: Cell, folder: Path) -> None:
        """Take note of what the result in ``folder`` says it took."""
        try:
            timing = results.read_result(folder / results.RESULT)["timing"]
        except results.ResultError:
            return
        if seconds := timing.get("training_wall_s"):
            self._taken.setdefault(_Kind(cell.system, cell.model), []).append(
                seconds / cell.fraction
            )

    def left(self, cells: Mapping[str, Cell]) -> float | None:
        """Time until all ``cells``, by name, are done [s]; ``None`` if nothing is known yet."""
        if not self._taken:
            return None
        known = {kind: statistics.median(times) for kind, times in self._taken.items()}
        other = statistics.mean(known.values())
        total = 0.0
        for name, cell in cells.items():
            expected = known.get(_Kind(cell.system, cell.model), other) * cell.fraction
            spent = time.monotonic() - self.started[name] if name in self.started else 0.0
            total += max(expected - spent, 0.0)
        return total / self.jobs
