"""Files that appear whole or not at all, and checksums of files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

#: Kinds of files that nothing may take the place of.
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}

#: Parts of what torch says, without a path or a reason, when it cannot write a file.
_TORCH_COULD_NOT_WRITE = ("PytorchStreamWriter", "inline_container.cc")


def checksum(path: str | Path) -> str:
    """SHA-256 of the content of a file in hexadecimal digits, read piece by piece.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:  # Python 3.10 has no hashlib.file_digest
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to, which then takes its place.

    ``path`` is at any moment the old or the new file, also if several processes write it. The
    new file has the permissions of the old one. Where ``path`` is a link, the file that it
    points to is replaced. If writing fails, the temporary file is removed and ``path`` stays
    what it was.

    Raises:
        FileNotFoundError: if there is no folder for the file, or nothing has been written.
        OSError: if ``path`` is there and no regular file, or is write-protected, and as
            :func:`writing` does.
    """
    path = Path(path)
    target, mode = _target(path)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            # Made here, so that nobody may read it who may not read the old file.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            os.close(os.open(temporary, flags, 0o666 if mode is None else 0o600))
            os.utime(temporary, (0, 0))
            yield temporary
            with temporary.open("rb+") as file:
                if os.fstat(file.fileno()).st_mtime_ns == 0:
                    raise FileNotFoundError(f"nothing has been written to {path}")
                os.fsync(file.fileno())
            if mode is not None:
                temporary.chmod(mode)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Let errors that arise while ``path`` is written name it.

    Raises:
        OSError: naming ``path``, for a full disk, a missing permission and the like, also where
            torch reports them as a ``RuntimeError`` without path and reason.
    """
    place = os.path.realpath(path)
    try:
        yield
    except OSError as error:
        # An error about another file, such as one that is read, is left as it is.
        # Temporary files have the name of ``path``, a point and more.
        own = error.filename is None or _is_of(os.path.realpath(error.filename), place)
        if error.errno is None or not own:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except RuntimeError as error:
        if not any(part in str(error) for part in _TORCH_COULD_NOT_WRITE):
            raise
        free = shutil.disk_usage(os.path.dirname(place)).free // 2**20
        raise OSError(
            f"{path} could not be written completely; {free} MiB are free in its folder, and there "
            "may be a quota or a limit to the size of files"
        ) from error


def remove_unfinished(path: str | Path) -> None:
    """Remove what :func:`replacing` has left of ``path`` in processes that were killed.

    Only who has locked ``path`` may call this: another process may be writing it.
    """
    target = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(target.name) + r"\.\d+\.[0-9a-f]{8}\.part")
    for file in target.parent.iterdir():
        if pattern.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _is_of(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def _target(path: Path) -> tuple[Path, int | None]:
    """The file to replace, behind all links, and its permissions; ``None`` if it is new."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no folder {target.parent} to write {target.name} to")
    try:
        status = target.stat()
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise OSError(f"{path} is {kind}; only a regular file can be replaced")
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"{path} is write-protected")
    return target, stat.S_IMODE(status.st_mode)
