"""The record of a stage: what it depends on, what it has made, and whether it has ended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from les.files import checksum, replacing


class Record:
    """A JSON file that says what a stage has made, of what, with checksums.

    It is written when the stage begins, with what its results depend on, and again when it has
    ended, with checksums of its files. So after an interruption the stage is known to be
    unfinished.

    Args:
        path: the file.
        identity: what the results depend on, by names that a message can use.
        replace: forget what an earlier run has made, if it has another identity, or if one of its
            files is missing or has changed since.
        leftovers: a folder from which an unfinished stage goes on and that does not say itself
            whose it is. It is removed before a new record is written, and what an unfinished stage
            has left there is given up only with ``replace``. Without such a folder a stage that has
            not ended may have other settings.

    Raises:
        ValueError: if the file is of a run with another identity; the message says what differs.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        replace: bool = False,
        leftovers: Path | None = None,
    ) -> None:
        self.path = path
        self.identity = plain(identity)
        self._content: dict[str, Any] = {}
        if path.exists():
            self._content = _read(path)
            known = self._content["depends_on"]
            different = [
                name for name in {**self.identity, **known}
                if self.identity.get(name) != known.get(name)
            ]  # fmt: skip
            unfinished = self._content["finished"] is None
            if different and not (replace or (unfinished and leftovers is None)):
                raise ValueError(
                    f"{path} is of a run with other {' and '.join(different)}; choose another "
                    "folder, or make it and all that follows from it anew by --force"
                )
            if different or (replace and self._changed()):
                self._content = {}
        if not self._content:
            # In this order: whenever the process is killed, what is left is that of the record, or
            # there is no record.
            path.unlink(missing_ok=True)
            if leftovers is not None and leftovers.exists():
                shutil.rmtree(leftovers)
            self._content = {"depends_on": self.identity, "finished": None}
            self._write()

    @property
    def finished(self) -> bool:
        """Whether the stage has ended, and its files are as it has left them.

        Raises:
            ValueError: if one of them is missing or has changed; the message names it.
        """
        changed = self._changed()
        if changed:
            raise ValueError(
                f"{changed} since it was made; put it back, or make it and all that follows from "
                "it anew by --force"
            )
        return self._content["finished"] is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage has noted when it ended."""
        return dict(self._content.get("facts", {}))

    def finish(self, files: Iterable[Path], **facts: Any) -> None:
        """Note that the stage has ended.

        Args:
            files: what it has made, in the folder of the record or below.
            facts: what else is worth knowing.
        """
        from les import __version__

        folder = self.path.parent
        self._content |= {
            "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
            "les": __version__,
            "files": {os.path.relpath(path, folder): checksum(path) for path in files},
            "facts": facts,
        }
        self._write()

    def _changed(self) -> str:
        """Which file of a stage that has ended is not as it was left, and how; empty for none."""
        for name, digest in self._content.get("files", {}).items():
            path = self.path.parent / name
            if not path.is_file():
                return f"{path} is missing"
            if checksum(path) != digest:
                return f"{path} has changed"
        return ""

    def _write(self) -> None:
        write_json(self.path, self._content)


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it comes back from a file, to be compared with one."""
    return dict(json.loads(json.dumps(identity)))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["depends_on"], dict) or "finished" not in content:
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no record of a stage; move it away") from None
    return dict(content)
