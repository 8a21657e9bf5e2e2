"""What backends share that train with the tools of this package."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from les.backends import Backend, EpochRecord, TrainingJob
from les.training.files import RunFiles
from les.training.history import read_history
from les.training.run import TrainingRun


class TrainingBackend(Backend):
    """A backend with the options of ``TrainingParser``, whose runs leave :class:`RunFiles`."""

    #: Ending of the names of its files with weights.
    suffix: ClassVar[str]

    @classmethod
    def files(cls, folder: Path, name: str) -> RunFiles:
        """The files of the run ``name`` in ``folder``."""
        return RunFiles(folder, name, cls.suffix)

    def carry_out(
        self, training: Callable[[TrainingRun], None], options: argparse.Namespace, *, les: bool
    ) -> None:
        """Call ``training`` with a run whose files no other process touches meanwhile.

        Args:
            training: trains, from the start or after the last epoch of an earlier run.
            options: of a ``TrainingParser``.
            les: whether the model has LES.

        Raises:
            ValueError, les.locks.InUseError: as ``RunFiles.claim``.
        """
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        files = self.files(options.work_dir, options.name)
        with files.claim(options.resume) as continued:
            training(TrainingRun(self, options, files, les, continued))

    def training_arguments(self, job: TrainingJob) -> list[str]:
        return [*job.options(), "--resume", *job.extra]

    def trained_model(self, job: TrainingJob) -> Path:
        path = self.files(job.directory, job.name).model
        if not path.is_file():
            raise FileNotFoundError(f"training has left no model {path}")
        return path

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        return read_history(self.files(job.directory, job.name).history)
