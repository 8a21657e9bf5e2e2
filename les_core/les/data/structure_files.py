"""Files of structures in any format that ASE reads: how many there are, and one after the other.

Needs ASE, which is imported where a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from les.data.atoms import check_atoms
from les.data.extxyz import SUFFIXES, DataError, blocks, parse

#: What is known of a structure before it is read: ``"<file>: frame <n>"``, and how to read it.
Entry = tuple[str, Callable[[], Any]]


def entries(path: Path) -> Iterator[Entry]:
    """The structures of a file. Those of extxyz files are read when asked for, others at once.

    Raises:
        DataError: where a structure cannot be found or read; reading one that has been found
            raises it, too. The message names file and frame.
    """
    if _is_extxyz(path):
        for where, lines in blocks(path):
            yield where, partial(parse, where, lines)
    else:
        for frame, atoms in enumerate(_read(path)):
            yield f"{path}: frame {frame}", partial(_given, atoms)


def read_structures(path: str | Path) -> Iterator[tuple[str, Any]]:
    """All structures of a file of any format, each with ``"<file>: frame <n>"``.

    Raises:
        DataError: for a structure that cannot be read, and as :func:`entries`.
    """
    for where, load in entries(Path(path)):
        yield where, load()


def count_structures(path: Path) -> int:
    """How many structures a file has.

    Raises:
        DataError: as :func:`entries`, if the file is not whole.
    """
    return sum(1 for _ in entries(path))


def _given(atoms: Any) -> Any:
    return atoms


def _is_extxyz(path: Path) -> bool:
    if not path.is_file():
        found = "is no regular file" if path.exists() else "there is no such file"
        raise DataError(f"{path}: cannot be read: {found}")
    if path.name.lower().endswith(SUFFIXES):
        return True
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return filetype(str(path)) == "extxyz"
    except (UnknownFileTypeError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error or 'ASE does not know it'}") from error


def _read(path: Path) -> Iterator[Any]:
    """The structures that ASE finds; whatever it trips over becomes a :class:`DataError`."""
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    n_read = 0
    try:
        # An "@" in the name is part of it, no choice of frames.
        for atoms in iread(str(path), do_not_split_by_at_sign=True):
            yield atoms
            n_read += 1
    except UnknownFileTypeError as error:
        raise DataError(f"{path}: is no file of structures that ASE knows ({error})") from error
    except Exception as error:  # each format raises errors of its own
        raise DataError(
            f"{path}: cannot be read after {n_read} structures: {type(error).__name__}: {error}"
        ) from error
    if n_read == 0:
        raise DataError(f"{path}: holds no structures")


def one_structure(path: Path) -> Any:
    """The structure of a file that has one.

    Raises:
        DataError: if it cannot be read.
        ValueError: if there are several, or it is none that can be evaluated.
    """
    found = list(read_structures(path))
    if len(found) != 1:
        raise ValueError(f"{path}: one structure is wanted, got {len(found)}")
    where, atoms = found[0]
    try:
        check_atoms(atoms)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return atoms
