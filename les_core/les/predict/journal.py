"""A file of what has been computed, which outlives the process that writes it."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from les.files import replacing, writing

#: Key of an array in JSON.
_ARRAY = "npy"


def journal_path(output: Path) -> Path:
    """The file that keeps results until ``output`` is written: beside it, behind all links."""
    target = Path(os.path.realpath(output))
    return target.with_name(f"{target.name}.journal")


class Journal:
    """Records that are appended to a file one by one, each a line with its checksum.

    The first record says what run the journal belongs to. A process that is killed while it
    writes leaves at most one incomplete line at the end, which is dropped when the journal is
    opened again.

    Args:
        path: the file.
        identity: what the results depend on, such as checksums of input files, by a name that a
            message can use.
        mode: permissions of a new file; ``None`` for the usual ones.

    Attributes:
        n_records: number of records after the first.
        last: the last of them, ``None`` without any.

    Raises:
        ValueError: if the file is there and damaged, or belongs to another run.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], mode: int | None = None) -> None:
        self.path = path
        self.n_records = 0
        self.last: Any = None
        if not path.exists():
            # Whole or not at all, so that a file without a whole first line is none of ours.
            with replacing(path) as temporary:
                temporary.write_bytes(line_of(dict(identity)))
                if mode is not None:
                    temporary.chmod(mode)
        size = self._examine(identity)
        with writing(path):
            self._file: BinaryIO = path.open("ab", buffering=0)
            self._file.truncate(size)

    def append(self, record: Any) -> None:
        """Add a record: what JSON can hold, and arrays, which come back exactly."""
        line = line_of(record)
        with writing(self.path):
            done = 0
            while done < len(line):  # a disk that is nearly full takes a part first
                done += self._file.write(line[done:]) or 0
        self.n_records += 1
        self.last = record

    def __iter__(self) -> Iterator[Any]:
        """The records after the first, read from the file."""
        lines = records_of(self.path)
        next(lines)
        for _, record in lines:
            yield record

    def close(self) -> None:
        """Close the file, with all that has been written on the disk."""
        if not self._file.closed:
            with writing(self.path):
                os.fsync(self._file.fileno())
            self._file.close()

    def remove(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _examine(self, identity: Mapping[str, Any]) -> int:
        """Count the records of the file; returns the size of its whole lines."""
        records = records_of(self.path)
        size, first = next(records, (0, None))
        check_identity(self.path, first, identity)
        for end, record in records:
            self.n_records += 1
            size, self.last = end, record
        return size


def check_identity(
    path: Path, first: Any, identity: Mapping[str, Any], again: str = "move the file away"
) -> None:
    """Refuse a file whose first record is not that of this run.

    Args:
        path: the file, for messages.
        first: its first record.
        identity: what the results of this run depend on.
        again: what to do to start again, for messages.

    Raises:
        ValueError: naming the file and what differs.
    """
    if not isinstance(first, dict) or not identity.keys() <= first.keys():
        raise ValueError(f"{path} is no journal of this command; move it away")
    different = [name for name in identity if first[name] != identity[name]]
    if different:
        raise ValueError(
            f"{path} is of another run, with other {' and '.join(different)}; repeat the "
            f"command of that run, or {again} to start again"
        )


def line_of(record: Any) -> bytes:
    """A record, of what JSON can hold and arrays, as a line with its checksum."""
    text = json.dumps(record, default=_packed).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _packed(value: Any) -> dict[str, str]:
    """An array as JSON: digits would take a hundred times as long as its bytes."""
    buffer = BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return {_ARRAY: base64.b64encode(buffer.getvalue()).decode()}


def _unpacked(value: dict[str, Any]) -> Any:
    if value.keys() != {_ARRAY}:
        return value
    return np.load(BytesIO(base64.b64decode(value[_ARRAY])), allow_pickle=False)


def records_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The records of a journal, each with the place in the file where it ends.

    Raises:
        ValueError: for a line that is damaged, but for the last one, which is left out.
    """
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            digest, _, text = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or digest != b"%08x" % zlib.crc32(text):
                if file.read(1):  # more follows, so it is not what a killed process leaves
                    raise ValueError(
                        f"{path} is damaged in line {number}; move it away to start again"
                    )
                return
            end += len(line)
            yield end, json.loads(text, object_hook=_unpacked)
