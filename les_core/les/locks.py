"""Locks that keep a second run out of a folder, and say who is in it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger("les")

#: Name of the lock of a folder as a whole.
FOLDER_LOCK = "les.lock"
#: What the system says where another process has the lock, and where files have no locks.
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


#: Lock files that this process holds.
_held: set[TextIOWrapper] = set()


class InUseError(OSError):
    """Another process works on these files; the message says which."""


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[Path]:
    """Keep other processes out of a folder, or away from a file, while the context lasts.

    The lock is a file, ``les.lock`` in the folder or ``NAME.lock`` beside the file, that says
    which process holds it. The system releases the lock when that process ends, however it ends:
    a lock file that was left behind keeps nobody out. Where the file system has no locks, a
    warning says so, and the run goes on.

    Args:
        path: existing folder, or a file that need not exist, in an existing folder.

    Yields:
        The path of the lock file.

    Raises:
        InUseError: if another process, or another part of this one, holds the lock.
    """
    path = Path(path)
    lock = path / FOLDER_LOCK if path.is_dir() else path.with_name(f"{path.name}.lock")
    process = os.getpid()
    with _acquire(lock, path) as file:
        _held.add(file)
        file.seek(0)
        file.truncate()
        file.write(_this_process())
        file.flush()
        try:
            yield lock
        finally:
            _held.discard(file)
            # The name first, so that who has opened this file meanwhile notices; see _acquire.
            if os.getpid() == process:
                with contextlib.suppress(OSError):
                    lock.unlink()


def _acquire(lock: Path, path: Path) -> TextIOWrapper:
    """The open lock file, which holds the lock until it is closed."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(lock, flags, 0o666)
        file = os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
        try:
            _lock(file.fileno())
            # Its last holder may have removed the file since it was opened.
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning("nothing keeps a second run out of %s: %s", path, error.strerror)
                return file
            holder = file.read().strip()
            file.close()
            if error.errno not in _HELD:
                raise
            raise InUseError(
                f"{path} is in use by {holder or 'another process'}; wait for it or end it, or "
                "choose another place"
            ) from None
        file.close()


def _lock(descriptor: int) -> None:
    """Lock the file, or raise ``OSError`` at once."""
    if sys.platform == "win32":
        # Far behind the text, which others must be able to read.
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _this_process() -> str:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    command = shlex.join([name, *sys.argv[1:]])
    return f"process {os.getpid()} on {platform.node()} since {since}: {command}\n"


def _let_go() -> None:
    """In a forked process, which may outlive the one that holds the locks."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
