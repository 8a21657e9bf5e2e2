"""What has been computed for a table, kept beside it until the table is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from les.locks import locked
from les.predict.journal import Journal, journal_path


@contextlib.contextmanager
def table_journal(
    output: Path, identity: Mapping[str, Any], replace: bool = False
) -> Iterator[Journal]:
    """The journal beside ``output``, to which no other process writes meanwhile.

    It stays, whatever ends the context, unless nothing was written to it.

    Args:
        output: the table.
        identity: what the results depend on, by name.
        replace: remove a journal of another run, or a damaged one, and begin a new one.

    Raises:
        ValueError: if the journal is of another run, or damaged, and is not to be replaced; the
            message names what differs.
        OSError: if another process works on it, or it cannot be read or written.
    """
    path = journal_path(output)
    with locked(path):
        try:
            journal = Journal(path, identity)
        except ValueError:
            if not replace:
                raise
            path.unlink()
            journal = Journal(path, identity)
        try:
            yield journal
        finally:
            journal.close()
            if journal.n_records == 0:
                journal.remove()
