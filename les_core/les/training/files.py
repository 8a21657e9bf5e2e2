"""Where a training run leaves its results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from les.files import checksum, remove_unfinished
from les.locks import locked

logger = logging.getLogger("les")

#: Options that a continued run may change.
MAY_CHANGE = frozenset(
    {"allow_pickle", "config", "device", "name", "resume", "test_file", "work_dir"}
)

#: Options that count by the contents of their files.
CHECKSUMS = ("train_file", "valid_file")


def check_name(name: str) -> str:
    """``name``, with which all files of a run start, if it leads to no other folder.

    Raises:
        ValueError: if it is empty or more than the name of a file.
    """
    # Windows' rules include those of other systems.
    if name in ("", ".", "..") or PureWindowsPath(name).name != name or not name.isprintable():
        raise ValueError(
            f"--name must be the start of file names, without folders, got {name!r}; the folder is "
            "given by --work_dir"
        )
    return name


def agreed_settings(
    options: Mapping[str, Any],
    les: bool,
    *,
    may_change: Collection[str] = MAY_CHANGE,
    by_content: Collection[str] = CHECKSUMS,
) -> dict[str, Any]:
    """What a run that continues one with ``options`` must agree with.

    Args:
        options: by name.
        les: whether the model has charges.
        may_change: names of options that are left out.
        by_content: names of options whose files are replaced by checksums.
    """
    kept = {key: x for key, x in options.items() if key not in may_change}
    for key in by_content:
        if kept.get(key) is not None:
            with contextlib.suppress(OSError):  # reading it will say so
                kept[key] = checksum(Path(kept[key]))
    # Under the names that the user knows.
    return {"les": les, **{"from" if key == "start" else key: x for key, x in kept.items()}}


@dataclass(frozen=True)
class RunFiles:
    """Files of one run: all in one folder, their names starting with that of the run.

    Raises:
        ValueError: if the name leads to another folder.
    """

    folder: Path
    name: str
    #: Ending of the files with weights.
    suffix: str

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def model(self) -> Path:
        """The best model, when the run has ended."""
        return self.folder / f"{self.name}{self.suffix}"

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch."""
        return self.folder / f"{self.name}_checkpoint{self.suffix}"

    @property
    def best(self) -> Path:
        """The state after the epoch with the lowest validation loss."""
        return self.folder / f"{self.name}_best{self.suffix}"

    @property
    def history(self) -> Path:
        """The learning curve."""
        return self.folder / f"{self.name}_history.json"

    @property
    def log(self) -> Path:
        """What upstream prints."""
        return self.folder / f"{self.name}.log"

    def settings(self, options: Mapping[str, Any], les: bool) -> dict[str, Any]:
        """What a run that continues this one must agree with.

        All ``options`` but :data:`MAY_CHANGE`; data files may move, but must stay the same.
        """
        return agreed_settings(options, les)

    @contextlib.contextmanager
    def claim(self, resume: bool) -> Iterator[bool]:
        """Make the folder, and keep other processes away from these files, in this context.

        Yields:
            Whether there is a run to continue.

        Raises:
            ValueError: if there is one and ``resume`` is false, and if results of one are there
                whose checkpoint is not.
            les.locks.InUseError: if the run is going on in another process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.checkpoint):
            continued = self.checkpoint.exists()
            if continued and not resume:
                raise ValueError(
                    f"{self.checkpoint} is there already: continue that run with --resume, or use "
                    "another --name or --work_dir"
                )
            left = next((path for path in (self.model, self.history) if path.exists()), None)
            if left is not None and not continued:
                raise ValueError(
                    f"{left} is there, but no checkpoint {self.checkpoint} to continue from; move "
                    "it away, or use another --name or --work_dir"
                )
            if resume and not continued:
                logger.info("no checkpoint %s: starting with the first epoch", self.checkpoint)
            for path in (self.model, self.checkpoint, self.best, self.history):
                remove_unfinished(path)
            yield continued
