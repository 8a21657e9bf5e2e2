"""The record of a stage: what it depends on, what it has made, and whether it has ended."""

from __future__ import annotations

import json
import os
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
        replace: forget what an earlier run with another identity has made.
        guarded: whether what an unfinished stage has left, such as a journal, says itself whose it
            is, so that nothing is continued with other settings.

    Attributes:
        replaced: whether there was a record of another run, which has been replaced.

    Raises:
        ValueError: if the file is of a run with another identity; the message says what differs.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        replace: bool = False,
        guarded: bool = True,
    ) -> None:
        self.path = path
        self.identity = plain(identity)
        self.replaced = False
        self._content: dict[str, Any] = {}
        if path.exists():
            self._content = _read(path)
            known = self._content.get("depends_on", {})
            different = [
                name for name in {**self.identity, **known}
                if self.identity.get(name) != known.get(name)
            ]  # fmt: skip
            replace = replace or (guarded and self._content["finished"] is None)
            if different and not replace:
                raise ValueError(
                    f"{path} is of a run with other {' and '.join(different)}; choose another "
                    "folder, or make it and all that follows from it anew by --force"
                )
            self.replaced = bool(different)
        if not self._content or self.replaced:
            self._content = {"depends_on": self.identity, "finished": None}
            self._write()

    @property
    def finished(self) -> bool:
        """Whether the stage has ended, and its files are as it has left them.

        Raises:
            ValueError: if one of them is missing or has changed; the message names it.
        """
        if self._content["finished"] is None:
            return False
        for name, digest in self._content["files"].items():
            path = self.path.parent / name
            if not path.is_file() or checksum(path) != digest:
                what = "has changed" if path.is_file() else "is missing"
                raise ValueError(
                    f"{path} {what} since it was made; put it back, or remove {self.path} to make "
                    "it anew"
                )
        return True

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
        known = content["depends_on"], content["finished"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no record of a stage; move it away") from None
    return content if known else {}
