"""Learning curves of runs that are going on, or were interrupted and went on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tqdm import tqdm

from les.backends import Backend, TrainingJob

#: Records as dictionaries, as in result files; see ``les.backends.EpochRecord``.
Curve = list[dict[str, Any]]

#: An epoch is done when one of these is known.
VALIDATION = ("valid_loss", "valid_energy_rmse", "valid_force_rmse")


def curve_so_far(backend: Backend, job: TrainingJob) -> Curve:
    """Completed epochs of a run that may not have ended; empty where none can be read yet."""
    try:
        curve = [dataclasses.asdict(record) for record in backend.history(job)]
    except Exception:  # no file yet, or half a line; each backend has a format of its own
        return []
    return [record for record in curve if any(record[key] is not None for key in VALIDATION)]


def position(curve: Curve, epochs: int | None, seconds: float, n_before: int) -> str:
    """Where a run is, in a few words.

    Args:
        curve: its completed epochs.
        epochs: their number in the end, if known.
        seconds: time since its last start [s].
        n_before: number of epochs that were completed before that.
    """
    done = len(curve)
    if done == 0:
        return ""
    text = f"epoch {done}" + (f" of {epochs}" if epochs else "")
    if epochs and n_before < done < epochs:
        left = (epochs - done) * seconds / (done - n_before)
        text += f", {tqdm.format_interval(left)} left"
    return text


def digest(curve: Curve) -> dict[str, Any]:
    """What :func:`breaks` has to know of the learning curve at the end of an attempt to train."""
    return {"done": len(curve), "first": json.dumps(curve[0]) if curve else None}


def breaks(attempts: Sequence[dict[str, Any]], curve: Curve) -> list[str]:
    """What is wrong with the learning curve of a run that was interrupted.

    A run that goes on may repeat epochs after its last checkpoint. If it began again with the
    first one, which the time it took tells, its earlier work was lost, and one should know why.

    Args:
        attempts: the digests at the end of each attempt, the last included.
        curve: the whole learning curve.
    """
    found = [
        f"attempt {number} to train began again at the first epoch, although {before['done']} had "
        "been done"
        for number, (before, after) in enumerate(pairwise(attempts), 2)
        if before["done"] > 1 and before["first"] != after["first"]
    ]
    epochs = {record["epoch"] for record in curve}
    missing = sorted(set(range(min(epochs, default=0), max(epochs, default=-1))) - epochs)
    if missing:
        found.append(f"the learning curve lacks epochs {', '.join(map(str, missing))}")
    return found
