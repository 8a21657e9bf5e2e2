"""The learning curve of a run that may be continued, and what it must agree with."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from les.backend import EpochRecord
from les.files import replacing


def write_history(records: Sequence[EpochRecord], path: Path) -> None:
    """Write ``records`` as JSON; the file is at any moment the old or the new one."""
    with replacing(path) as temporary:
        text = json.dumps([dataclasses.asdict(record) for record in records], indent=1)
        temporary.write_text(text, encoding="utf-8")


def read_history(path: Path) -> list[EpochRecord]:
    """What :func:`write_history` has written."""
    return [EpochRecord(**record) for record in json.loads(path.read_text(encoding="utf-8"))]


def is_best(loss: float, records: Sequence[EpochRecord]) -> bool:
    """Whether ``loss`` is lower than all validation losses of ``records``."""
    losses = [x.valid_loss for x in records if x.valid_loss is not None]
    return loss < min(losses, default=math.inf)


def refuse_other_settings(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raise ``ValueError`` if the run in ``path`` had other settings than this one."""
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{path} is of a run with `{key}` = {before.get(key)!r}, this one has "
                f"{now.get(key)!r}; use the same settings, or another --name or --work_dir"
            )
