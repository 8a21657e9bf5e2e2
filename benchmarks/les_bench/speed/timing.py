"""Times that can be compared: taken in turn, again and again, in one process.

Absolute times depend on the machine and its load; the ratio of two times taken one after the
other does not, or much less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: Time that a round of evaluations is repeated for at least [s], and how often at least.
SECONDS, REPETITIONS = 2.0, 5

#: Times that can be taken: that which passes, and that of the processors, which other processes
#: on a machine do not change much; on a GPU it does not say how long anything takes.
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


class Comparison(NamedTuple):
    """Median time of each function [s], and the median of its ratio to that of the last one.

    On a busy machine the shortest times say more [s].
    """

    seconds: tuple[float, ...]
    ratios: tuple[float, ...]
    shortest: tuple[float, ...]


def interleaved(
    *functions: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> Comparison:
    """Time functions in turn, by one of :data:`CLOCKS`; all must have run before."""
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < REPETITIONS or time.perf_counter() - began < SECONDS:
        rounds.append([seconds(function, clock) for function in functions])
    ratios = [[taken / times[-1] for taken in times] for times in rounds]
    return Comparison(
        tuple(statistics.median(taken) for taken in zip(*rounds, strict=True)),
        tuple(statistics.median(ratio) for ratio in zip(*ratios, strict=True)),
        tuple(min(taken) for taken in zip(*rounds, strict=True)),
    )


def seconds(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call [s]."""
    start = clock()
    function()
    return clock() - start


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--clock``, which names the one of :data:`CLOCKS` that is read."""
    parser.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="what is measured: the time that passes (wall), or that of the processors "
        "(processor), which other programs change less; default: %(default)s",
    )


def check_clock(parser: argparse.ArgumentParser, clock: str, device: str) -> None:
    """End with an error of ``parser`` where a clock says nothing of a device.

    Args:
        parser: the one that has ``--clock`` and ``--device``.
        clock: one of :data:`CLOCKS`.
        device: where a model is evaluated, such as ``"cuda"``.
    """
    if clock == "processor" and not device.startswith("cpu"):
        parser.error(
            "--clock processor does not say how long a GPU takes; it needs --device cpu, got "
            f"{device}"
        )
