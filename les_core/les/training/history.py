"""The learning curve of a run that may be continued, and what it must agree with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from les.backends import EpochRecord
from les.backends.model_files import PickleRefusedError
from les.files import replacing
from les.training.files import CHECKSUMS


def write_history(records: Sequence[EpochRecord], path: Path) -> None:
    """Write ``records`` as JSON, without what is ``None``.

    The file is at any moment the old or the new one.
    """
    plain = [
        {key: value for key, value in dataclasses.asdict(record).items() if value is not None}
        for record in records
    ]
    with replacing(path) as temporary:
        text = json.dumps(plain, indent=1)
        temporary.write_text(text, encoding="utf-8")


def read_history(path: Path) -> list[EpochRecord]:
    """What :func:`write_history` has written.

    Raises:
        OSError: if there is no such file, or it may not be read.
        ValueError: if it is damaged or holds something else.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return [EpochRecord(**record) for record in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or holds no learning curve: {error}") from error


def is_best(loss: float, records: Sequence[EpochRecord]) -> bool:
    """Whether ``loss`` is lower than all validation losses of ``records``."""
    losses = [x.valid_loss for x in records if x.valid_loss is not None]
    return loss < min(losses, default=math.inf)


def diverged(epoch: int, checkpoint: Path) -> ValueError:
    """What to raise when the errors of ``epoch`` are no longer numbers."""
    return ValueError(
        f"training diverged: errors or charges have grown beyond measure in epoch {epoch}; try a "
        "lower --learning_rate. "
        f"The state before, if there is one, is in {checkpoint}"
    )


def random_state() -> dict[str, Any]:
    """The state of the random numbers of all devices."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo what has been drawn since :func:`random_state`, on the devices that there are now."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def plain_state(path: Path) -> Iterator[None]:
    """Say that a run is continued from plain values only, where ``path`` turns out to be a pickle.

    There is no consent to that as there is for other models: les writes no such states.

    Raises:
        ValueError: naming ``path``.
    """
    try:
        yield
    except PickleRefusedError as error:
        raise ValueError(
            f"{path} is a pickle or a program, no state of a training with les, and is not read; "
            "move it away, or use another --name or --work_dir"
        ) from error


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Say that the state in ``path`` does not fit, whatever error loading it raises.

    Raises:
        ValueError: naming ``path``.
    """
    try:
        yield
    except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())  # torch's have many lines
        raise ValueError(
            f"{path} does not hold the state of such a training: {type(error).__name__}: {reason}"
        ) from error


def refuse_other_settings(
    state: Mapping[str, Any],
    now: Mapping[str, Any],
    path: Path,
    *,
    by_content: Collection[str] = CHECKSUMS,
) -> None:
    """Refuse to continue the run in ``path`` if it is another one.

    Args:
        state: content of ``path``.
        now: settings of this run.
        path: for messages.
        by_content: names of settings that are checksums of files.

    Raises:
        ValueError: if the settings differ.
    """
    before = state["settings"]
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and key in by_content:
            raise ValueError(
                f"{path} is of a run with other contents of `{key}`; use the same data, or another "
                "--name or --work_dir"
            )
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{path} is of a run with `{key}` = {before.get(key)!r}, this one has "
                f"{now.get(key)!r}; use the same settings, or another --name or --work_dir"
            )
