"""Reading files that torch has written: whole ones only, and no code unless that is allowed.

A pickle can run any code when it is loaded. What les writes are plain values and tensors, which
``torch.load(weights_only=True)`` reads; everything else needs an explicit opt-in.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from les.backends.models import model_path, suggestion

#: What to say about a file that runs code when it is loaded.
OPT_IN = (
    "if its source is one that you trust, pass allow_pickle=True, or --allow-pickle (loading it "
    "runs the code it holds)"
)

#: How files begin that torch has written: archives, and those of earlier releases, which are five
#: pickles, of which the first is a number and the fourth the content, and the tensors' data.
ARCHIVE = b"PK\x03\x04"
EARLIER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
N_PICKLES = 5

#: Endings of archives that torch writes by other means: packages with their code, and what it has
#: compiled.
PROGRAMS = (".zip", ".pt2")

#: Parts that only archives with TorchScript have, which is code.
SCRIPT = "constants.pkl"


class PickleRefusedError(ValueError):
    """A file runs code when it is loaded, and nobody has allowed that."""


def load_plain(path: str | Path, kind: str, *, allow_pickle: bool = False) -> Any:
    """The content of a file that ``torch.save`` has written, with all tensors on the CPU.

    The checksums that such a file holds of its parts are verified before anything is loaded.
    Files of releases of torch before 1.6 hold none.

    Args:
        path: the file, or the name of a model of ``les models list``.
        kind: what it should hold, for messages, e.g. ``"MACE model"``.
        allow_pickle: load pickles, too, which run the code they hold.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it may not be read.
        PickleRefusedError: if it needs ``allow_pickle``.
        ValueError: if it is truncated, damaged, or not of torch.
    """
    path = model_path(path)
    whole, script = check_file(path, kind)
    if script and not allow_pickle:
        raise PickleRefusedError(f"{path} holds TorchScript, no plain {kind}; {OPT_IN}")
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        # Without checksums, only the name of something to be called tells a pickle from damage.
        if not allow_pickle and (whole or "Unsupported global" in str(error)):
            raise PickleRefusedError(f"{path} is a pickle, no plain {kind}; {OPT_IN}") from error
        raise _damaged(path, kind, error) from error
    except Exception as error:  # torch and unpickled classes raise many kinds
        if not allow_pickle:
            raise _damaged(path, kind, error) from error
        raise ValueError(
            f"{path} cannot be loaded as a {kind}: {type(error).__name__}: {_first_line(error)}"
        ) from error


def check_file(path: Path, kind: str) -> tuple[bool, bool]:
    """Refuse a file of torch that is missing, may not be read, or is not whole.

    Args:
        path: the file.
        kind: what it should hold, for messages.

    Returns:
        Whether checksums have been verified, and whether the file holds TorchScript.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`load_plain`.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a {kind} file, got a folder")
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} file {path}{suggestion(path)}")
    with path.open("rb") as file:
        start = file.read(len(EARLIER))
    if start.startswith(ARCHIVE):
        return True, SCRIPT in _check_archive(path, kind)
    if start != EARLIER:
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes) is no {kind}: not a file that torch has written")
    try:
        with path.open("rb") as file:
            for _ in range(N_PICKLES):
                for _ in pickletools.genops(file):  # reads without doing what it says
                    pass
    except ValueError as error:
        raise _damaged(path, kind, error) from error
    return False, False


def check_parts(content: Any, parts: Collection[str], path: str | Path, kind: str) -> None:
    """Refuse what a file holds if it is no dictionary with all of ``parts``.

    Args:
        content: as returned by :func:`load_plain`.
        parts: the keys that are needed.
        path: the file, for messages.
        kind: what it should hold, for messages.

    Raises:
        ValueError: naming the file and what it lacks.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no {kind}: it holds a {type(content).__name__}")
    lacking = [part for part in parts if part not in content]
    if lacking:
        found = ", ".join(map(repr, content)) or "nothing"
        raise ValueError(
            f"{path} is no {kind}: it lacks {', '.join(map(repr, lacking))} (it holds {found})"
        )


def _check_archive(path: Path, kind: str) -> set[str]:
    """Verify the checksums of all parts; their names, without folders."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise _damaged(path, kind, error) from error
    except RuntimeError as error:  # of an entry that says it is encrypted
        raise _damaged(path, kind, error) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of its part {damaged!r} is wrong; copy it again from "
            "where it came"
        )
    if "data.pkl" not in names and not path.name.endswith(PROGRAMS):
        raise ValueError(f"{path} is no {kind}: an archive that torch has not written")
    return names


def _damaged(path: Path, kind: str, error: BaseException) -> ValueError:
    return ValueError(
        f"{path} is truncated or damaged ({_first_line(error)}), so it is no {kind} any more; copy "
        "it again from where it came"
    )


def _first_line(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first.partition(". ")[0] or type(error).__name__
