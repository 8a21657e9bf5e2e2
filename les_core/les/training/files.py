"""Where a training run leaves its results."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Options that a continued run may change.
MAY_CHANGE = frozenset(
    {"allow_pickle", "config", "device", "name", "resume", "test_file", "work_dir"}
)

#: Options that count by the contents of their files.
CHECKSUMS = ("train_file", "valid_file")


@dataclass(frozen=True)
class RunFiles:
    """Files of one run: all in one folder, their names starting with that of the run."""

    folder: Path
    name: str
    #: Ending of the files with weights.
    suffix: str

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
        kept = {key: x for key, x in options.items() if key not in MAY_CHANGE}
        for key in CHECKSUMS:
            with contextlib.suppress(OSError):  # reading it will say so
                kept[key] = hashlib.sha256(Path(options[key]).read_bytes()).hexdigest()
        # Under the names that the user knows.
        return {"les": les, **{"from" if key == "start" else key: x for key, x in kept.items()}}

    def claim(self, resume: bool) -> bool:
        """Make the folder; whether there is a run to continue.

        Raises:
            ValueError: if there is one and ``resume`` is false.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        continued = self.checkpoint.exists()
        if continued and not resume:
            raise ValueError(
                f"{self.checkpoint} is there already: continue that run with --resume, or use "
                "another --name or --work_dir"
            )
        return continued
