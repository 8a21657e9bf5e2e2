"""Extended XYZ files, read frame by frame: none is dropped, and none waits for all to be read.

ASE's own reader takes a blank line for the end of the file, and says nothing of what follows.
Needs ASE, which is imported where a frame is read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

#: Ends of the names of compressed files, and what opens them.
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
#: Ends of the names of extended XYZ files.
SUFFIXES = tuple(f"{name}{end}" for name in (".xyz", ".extxyz") for end in ("", *_OPENERS))


class DataError(ValueError):
    """A data file is missing or not fit for use; the message says where and why."""


def read_extxyz(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Frames of an extxyz file, each with ``"<file>: frame <n>"``.

    The file may be compressed (``.gz``, ``.bz2``, ``.xz``). Blank lines between frames are passed
    over.

    Raises:
        DataError: for an unreadable or truncated file, and for one without frames.
    """
    for where, lines in blocks(path):
        yield where, parse(where, lines)


def blocks(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of each frame, from its number of atoms on, with ``"<file>: frame <n>"``.

    Raises:
        DataError: for an unreadable file, one without frames, and for lines that make no frame;
            nothing can be said about what follows those.
    """
    path = Path(path)
    n_lines = n_frames = 0
    try:
        opener = _OPENERS.get(path.suffix, open)
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                n_lines += 1
                if not line.strip():
                    continue
                where = f"{path}: frame {n_frames}"
                n_atoms = _number_of_atoms(line, where, n_lines)
                lines = [line, *islice(file, max(n_atoms, 0) + 1)]
                _check_length(lines, n_atoms, where, n_lines)
                yield where, lines
                n_lines += len(lines) - 1
                n_frames += 1
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if n_frames == 0:
        raise DataError(f"{path}: holds no frames")


def parse(where: str, lines: Sequence[str]) -> Any:
    """The ``ase.Atoms`` of the lines of a frame.

    Raises:
        DataError: for what ASE cannot read; the message begins with ``where``.
    """
    from ase.io import read

    try:
        return read(StringIO("".join(lines)), format="extxyz")
    except Exception as error:  # ASE raises many kinds; the place is what matters
        raise DataError(f"{where}: not valid extended XYZ: {error}") from error


def _number_of_atoms(line: str, where: str, number: int) -> int:
    try:
        return int(line)
    except ValueError:
        text = line.rstrip("\n")
        raise DataError(f"{where}: line {number} must be a number of atoms, got {text!r}") from None


def _check_length(lines: list[str], n_atoms: int, where: str, number: int) -> None:
    """Refuse a frame that has fewer lines than it announces; ``number`` is that of the first."""
    found = max(len(lines) - 2, 0)
    blank = next((place for place, line in enumerate(lines[2:]) if not line.strip()), None)
    if n_atoms >= 1 and len(lines) == n_atoms + 2 and blank is None:
        return
    if blank is not None and any(line.strip() for line in lines[2 + blank :]):
        raise DataError(
            f"{where}: line {number + 2 + blank} is blank, among the {n_atoms} atoms that the "
            "frame announces"
        )
    raise DataError(
        f"{where}: announces {n_atoms} atoms, {found if blank is None else blank} lines follow "
        "(is it truncated?)"
    )
