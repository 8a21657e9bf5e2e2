"""Files that a command is asked to write: what may be written there, and what may not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def check_target(path: Path, inputs: Iterable[Path] = (), *, force: bool = False) -> None:
    """Refuse to write to ``path`` what would destroy something there.

    Links are followed. That nothing but a regular file is replaced, with its permissions, is the
    part of ``les.files.replacing``; here it is refused before any work is done.

    Args:
        path: the file to write.
        inputs: files that the command reads, which it must not replace, not even with ``force``.
        force: replace a file that is there.

    Raises:
        FileNotFoundError: if there is no folder for it.
        OSError: if it is there and no regular file, or may not be written.
        ValueError: if it is one of ``inputs``, or is there and ``force`` is not given.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no folder {target.parent} to write {path.name} to")
    if os.path.lexists(target):
        for given in inputs:
            if given.exists() and target.samefile(given):
                raise ValueError(f"{path} is what is read ({given}); name another file to write")
        if target.is_dir():
            raise ValueError(f"{path} is a folder; name a file in it")
        if not target.is_file():
            raise ValueError(f"{path} is no regular file, and only such a file can be written")
        if not force:
            raise ValueError(f"{path} exists already; name another file, or replace it by --force")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is write-protected")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"the folder {target.parent} must be writable to write {path.name}")


def check_folder(
    folder: Path, names: Iterable[str], inputs: Iterable[Path], *, force: bool
) -> None:
    """Refuse to replace what is in a folder of results, as :func:`check_target`.

    Args:
        folder: the folder, which need not be there.
        names: names of the files that are written to it.
        inputs: files that the command reads.
        force: replace files that are there.

    Raises:
        FileNotFoundError: if an input is not there.
        OSError, ValueError: as :func:`check_target`.
    """
    inputs = list(inputs)
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file")
    if os.path.lexists(folder):
        for name in names:
            check_target(folder / name, inputs, force=force)


def claim(folder: Path, names: Iterable[str], inputs: Iterable[Path], *, force: bool) -> None:
    """Make the folder of results where :func:`check_folder` refuses nothing."""
    check_folder(folder, names, inputs, force=force)
    folder.mkdir(parents=True, exist_ok=True)
