"""Where compiled kernels are kept: a folder and files of this user alone, with checksums.

What is loaded runs with all rights of the user, so nothing is loaded that somebody else may have
put there, or that is damaged.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from les.files import checksum
from les.user_cache import user_cache

#: Kernels that were not used for so long [s] are removed when others are compiled. When they were
#: used last is noted once a day.
FORGOTTEN_AFTER, DAY = 30 * 24 * 3600.0, 24 * 3600.0

#: Digits of the checksum in the name of a file.
DIGITS = 32


class UntrustedError(OSError):
    """Others may have written what is there, or may replace it."""


def kept_library(
    name: str, build: Callable[[Path], Path], load: Callable[[Path], ctypes.CDLL]
) -> tuple[ctypes.CDLL, Path]:
    """The library of a name and its file, built if it is not there.

    Args:
        name: what the file is called, before its checksum.
        build: makes the file in a folder, as :func:`compile_library`.
        load: loads a file, or raises OSError.

    Raises:
        OSError: if it cannot be built, kept or loaded.

    Warns:
        UserWarning: if the folder or a file in it is not of this user alone. Then the library is
            built anew in a temporary folder, for this process.
    """
    try:
        folder = cache_folder()
        for file in folder.glob(f"{name}-*.so"):
            refuse_others(file)
            if checksum(file)[:DIGITS] != file.stem.removeprefix(f"{name}-"):
                _remove(file)
                continue
            try:
                loaded = load(file)
            except OSError:  # of another system with the same home
                continue
            _note_use(file)
            return loaded, file
        _remove_forgotten(folder)
    except UntrustedError as error:
        _warn_once(str(error))
        folder = _private_folder()
    file = build(folder)
    return load(file), file


def compile_library(command: list[str], sources: list[Path], folder: Path, name: str) -> Path:
    """Compile ``sources`` into a file of ``folder`` that has ``name`` and a checksum as its name.

    Processes that do so at the same time do not see one another's unfinished files.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
        unfinished = Path(scratch, f"{name}.so")
        arguments = [*command, *map(str, sources), "-o", str(unfinished), "-lm"]
        done = subprocess.run(arguments, capture_output=True, timeout=300, check=False)
        if done.returncode != 0 or not unfinished.exists():
            said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise OSError(f"{command[0]} failed: {said}")
        unfinished.chmod(0o700)
        file = folder / f"{name}-{checksum(unfinished)[:DIGITS]}.so"
        os.replace(unfinished, file)
    return file


def cache_folder() -> Path:
    """Where compiled kernels are kept, of this user alone.

    Raises:
        UntrustedError: if others may write there.
    """
    folder = user_cache() / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_others(folder)
    return folder


def refuse_others(path: Path) -> None:
    """Raise :class:`UntrustedError` if ``path`` is of another user, or others may write to it."""
    if not hasattr(os, "getuid"):  # there are no such owners and modes
        return
    found = path.stat()
    if found.st_uid != os.getuid():
        raise UntrustedError(f"{path} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.filemode(found.st_mode)
        raise UntrustedError(f"others may write to {path} ({mode}); `chmod go-w` changes that")


def _note_use(file: Path) -> None:
    with suppress(OSError):  # the folder may be read only
        if time.time() - file.stat().st_mtime > DAY:
            os.utime(file)


def _remove_forgotten(folder: Path) -> None:
    """Kernels of older releases and settings, and what was left of compilers that were stopped."""
    now = time.time()
    for pattern, most in (("kernels-*.so", FORGOTTEN_AFTER), ("compiling-*", DAY)):
        for old in folder.glob(pattern):
            with suppress(OSError):
                if now - old.stat().st_mtime > most:
                    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


@functools.lru_cache(maxsize=8)
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"`les` loads no kernels that somebody else may have put there: {problem}. It compiles "
        "them in a temporary folder each time that it starts",
        stacklevel=6,
    )


@functools.lru_cache(maxsize=1)
def _private_folder() -> Path:
    """A folder that nobody else can write to, which goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="les-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
