"""Frames of a file in any format that upstream may be told to read, with their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.io

from les.data.extxyz import SUFFIXES, DataError, blocks, parse
from les.data.structure_files import read_structures


def frames_of(path: Path, ase_args: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Frames of a file, with their places for messages.

    Args:
        path: the file.
        ase_args: arguments for ASE's reader. A file in extxyz format, which is read without it, may
            have none but its format.

    Raises:
        les.data.extxyz.DataError: for a file that cannot be read, and for arguments without effect.
    """
    suffixed = path.name.lower().endswith(SUFFIXES)
    if ase_args and ase_args.get("format", "extxyz" if suffixed else None) == "extxyz":
        others = [repr(key) for key in ase_args if key != "format"]
        if others:  # they are of ASE's reader, which is not used
            raise DataError(
                f"{path}: `ase_args` have {', '.join(others)}, which has no effect on an extxyz "
                "file"
            )
        yield from ((where, parse(where, lines)) for where, lines in blocks(path))
        return
    if not ase_args:
        yield from read_structures(path)
        return
    frame = -1
    try:
        for frame, atoms in enumerate(ase.io.iread(path, **ase_args, parallel=False)):
            yield f"{path}: frame {frame}", atoms
    except Exception as error:  # each format raises errors of its own
        raise DataError(
            f"{path}: cannot be read after {frame + 1} frames: {type(error).__name__}: {error}"
        ) from error
