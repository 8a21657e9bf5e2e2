"""Times that can be compared: taken in turn, again and again, in one process.

Absolute times depend on the machine and its load; the ratio of two times taken one after the
other does not, or much less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: Time that a pair of evaluations is repeated for at least [s], and how often at least.
SECONDS, REPETITIONS = 2.0, 5


class Comparison(NamedTuple):
    """Median times [s], and the median of their ratio."""

    plain: float
    ours: float
    ratio: float


def interleaved(plain: Callable[[], Any], ours: Callable[[], Any]) -> Comparison:
    """Time two functions in turn; both must have run before."""
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(times[0]) < REPETITIONS or time.perf_counter() - began < SECONDS:
        for function, record in zip((plain, ours), times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return Comparison(statistics.median(times[0]), statistics.median(times[1]), ratio)
