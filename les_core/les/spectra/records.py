"""What has been computed for a table, kept beside it until the table is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from les.locks import locked
from les.predict.journal import Journal, journal_path


@contextlib.contextmanager
def kept(output: Path, identity: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal beside ``output``, to which no other process writes meanwhile.

    It stays, whatever ends the context, unless nothing was written to it.

    Raises:
        ValueError: if the journal is of another run; the message names what differs.
        OSError: if another process works on it, or it cannot be read or written.
    """
    path = journal_path(output)
    with locked(path):
        journal = Journal(path, identity)
        try:
            yield journal
        finally:
            journal.close()
            if journal.n_records == 0:
                journal.remove()
