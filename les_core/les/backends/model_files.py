"""Reading files that torch has written: whole ones only, and no code unless that is allowed.

A pickle can run any code when it is loaded. What les writes are plain values and tensors, which
``torch.load(weights_only=True)`` reads; everything else needs an explicit opt-in.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

#: What to say about a file that runs code when it is loaded.
OPT_IN = (
    "if its source is one that you trust, pass allow_pickle=True, or --allow-pickle (loading it "
    "runs the code it holds)"
)


class PickleRefusedError(ValueError):
    """A file runs code when it is loaded, and nobody has allowed that."""


def load_plain(path: str | Path, kind: str, *, allow_pickle: bool = False) -> Any:
    """The content of a file that ``torch.save`` has written, with all tensors on the CPU.

    The checksums that such a file holds of its parts are verified before anything is loaded.

    Args:
        path: the file.
        kind: what it should hold, for messages, e.g. ``"MACE model"``.
        allow_pickle: load pickles, too, which run the code they hold.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it may not be read.
        PickleRefusedError: if it needs ``allow_pickle``.
        ValueError: if it is truncated, damaged, or not of torch.
    """
    path = Path(path)
    check_file(path, kind)
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if not allow_pickle and "Unsupported" in str(error):
            raise PickleRefusedError(f"{path} is a pickle, no plain {kind}; {OPT_IN}") from error
        raise ValueError(f"{path} is damaged, or no {kind}: {_first_line(error)}") from error
    except Exception as error:  # torch and unpickled classes raise many kinds
        raise ValueError(
            f"{path} cannot be loaded as a {kind}: {type(error).__name__}: {_first_line(error)}"
        ) from error


def check_file(path: Path, kind: str) -> None:
    """Refuse a file of torch that is missing, may not be read, or is not whole.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`load_plain`.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a {kind} file, it is a folder")
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} file {path}")
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        _check_archive(path, kind)
    elif start[:1] != b"\x80":  # neither an archive nor a pickle of earlier releases of torch
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes) is no {kind}: not a file that torch has written")


def _check_archive(path: Path, kind: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}), so it is no {kind} any more; copy it "
            "again from where it came"
        ) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of its part {damaged!r} is wrong; copy it again from "
            "where it came"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
