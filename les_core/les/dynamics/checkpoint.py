"""The latest state of a run, and how much of its files belongs to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from les.files import replacing
from les.predict.journal import check_identity, line_of, records_of


class GrowingFile:
    """A file that only grows, of which a killed process may leave more than its state knows.

    Args:
        path: the file.
        size: how much of it belongs to the state [bytes]; what follows is cut off, and so much must
            be there (:func:`require_size`).

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._file = path.open("ab")
        self._file.truncate(size)
        self.size = size

    def append(self, text: str) -> None:
        """Add text; it is on the disk when this returns."""
        content = text.encode()
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.size += len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def require_size(path: Path, size: int) -> None:
    """Refuse a file that has lost something of what belongs to the state.

    Args:
        path: the file.
        size: how much of it belongs to the state [bytes].

    Raises:
        ValueError: if it is shorter.
    """
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise ValueError(
            f"{path} has {found} bytes, and {size} when the run was last alive; put back what "
            "is missing, or begin anew with --force"
        )


class Checkpoint:
    """A file with the latest state of a run, which is whole at any moment.

    Args:
        path: the file.
        identity: what the results of the run depend on, by names that a message can use.

    Attributes:
        state: the state that was there, ``None`` without one.

    Raises:
        ValueError: if the file is of another run, or damaged.
        OSError: if it cannot be read.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self._identity = path, dict(identity)
        self.state: Any = None
        if path.exists():
            records = [record for _, record in records_of(path)]
            first = records[0] if records else None
            check_identity(path, first, identity, "give --force")
            if len(records) != 2:
                raise ValueError(f"{path} is damaged; move it away to start again")
            self.state = records[1]

    def write(self, state: Mapping[str, Any]) -> None:
        """Put a state in the place of the last one: plain values, and arrays."""
        with replacing(self.path) as temporary:
            temporary.write_bytes(line_of(self._identity) + line_of(dict(state)))
