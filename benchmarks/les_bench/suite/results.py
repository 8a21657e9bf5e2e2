"""Result files: one JSON (and one npz for the plots) per run, never half-written."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from les.files import replacing

#: Version of the format of ``result.json``.
SCHEMA = 2
RESULT = "result.json"
PREDICTIONS = "predictions.npz"
#: What every result must hold; ``metrics`` has one entry per evaluated set.
REQUIRED = ("configuration", "hash", "data", "versions", "machine", "metrics", "history", "timing")


class ResultError(RuntimeError):
    """A result file is missing, truncated or not ours; the message names it."""


def configuration_hash(configuration: Mapping[str, Any]) -> str:
    """Hash that is equal for runs with equal configuration."""
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` so that ``path`` is at any moment the old or the new file."""
    text = json.dumps(content, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_predictions(path: Path, sets: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the arrays of each evaluated set as ``<set>/<name>``, atomically."""
    arrays = {f"{split}/{name}": a for split, data in sets.items() for name, a in data.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path) -> dict[str, dict[str, Any]]:
    """The sets that :func:`write_predictions` wrote."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            flat = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ResultError(f"{path}: not a readable predictions file: {error}") from error
    sets: dict[str, dict[str, Any]] = {}
    for name, array in flat.items():
        split, _, key = name.partition("/")
        sets.setdefault(split, {})[key] = array
    return sets


def read_result(path: Path) -> dict[str, Any]:
    """The result in ``path``; ``ResultError`` if it is truncated or foreign."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not a complete result file: {error}") from error
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        found = result.get("schema") if isinstance(result, dict) else None
        raise ResultError(f"{path}: `schema` must be {SCHEMA}, got {found!r}")
    missing = [key for key in REQUIRED if key not in result]
    if missing:
        raise ResultError(f"{path}: lacks {', '.join(missing)}")
    return result


def read_all(folder: Path) -> dict[Path, dict[str, Any]]:
    """All results one level below ``folder``, by run folder."""
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder of results")
    paths = sorted(folder.glob(f"*/{RESULT}"))
    if not paths:
        raise ResultError(f"{folder}: holds no results (expected RUN/{RESULT})")
    return {path.parent: read_result(path) for path in paths}
