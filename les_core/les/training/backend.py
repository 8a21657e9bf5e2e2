"""What backends share that train with the tools of this package."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from les.backends import Backend, EpochRecord, TrainingJob
from les.training.files import RunFiles
from les.training.history import read_history


class TrainingBackend(Backend):
    """A backend with the options of ``TrainingParser``, whose runs leave :class:`RunFiles`."""

    #: Ending of the names of its files with weights.
    suffix: ClassVar[str]

    @classmethod
    def files(cls, folder: Path, name: str) -> RunFiles:
        """The files of the run ``name`` in ``folder``."""
        return RunFiles(folder, name, cls.suffix)

    def training_arguments(self, job: TrainingJob) -> list[str]:
        return [*job.options(), "--resume", *job.extra]

    def trained_model(self, job: TrainingJob) -> Path:
        path = self.files(job.directory, job.name).model
        if not path.is_file():
            raise FileNotFoundError(f"training has left no model {path}")
        return path

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        return read_history(self.files(job.directory, job.name).history)
