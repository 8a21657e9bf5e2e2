"""CACE as a backend of the command line and the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from les.backend import Backend, EpochRecord, TrainingJob
from les.training.files import RunFiles
from les.training.history import read_history

if TYPE_CHECKING:
    from collections.abc import Sequence


class CACEBackend(Backend):
    """The implementation of CACE in this package, which needs a neighbour list only."""

    name = "cace"
    package = "les_cace"
    distribution = "matscipy"
    symbol = "matscipy.neighbours:neighbour_list"

    def train(self, arguments: Sequence[str], *, les: bool) -> None:
        self.require()
        from les_cace.training import train

        train(arguments, les=les)

    def calculator(
        self,
        model: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float64",
        bec: bool = False,
        allow_pickle: bool = False,
    ) -> Any:
        self.require()
        from les_cace.calculator import LESCalculator

        return LESCalculator(model, device=device, dtype=dtype, bec=bec)

    def convert(self, source: Path, target: Path, *, allow_pickle: bool = False) -> None:
        self.require()
        from les_cace.checkpoint import save_model
        from les_cace.published import load_published

        save_model(load_published(source, allow_pickle=allow_pickle), target)

    def training_arguments(self, job: TrainingJob) -> list[str]:
        arguments = {
            "config": job.config,
            "name": job.name,
            "train_file": job.train_file,
            "valid_file": job.valid_file,
            "work_dir": job.directory,
            "seed": job.seed,
            "device": job.device,
        }
        if job.epochs is not None:
            arguments["epochs"] = job.epochs
        flags = [text for key, value in arguments.items() for text in (f"--{key}", str(value))]
        return [*flags, "--resume", *job.extra]

    def trained_model(self, job: TrainingJob) -> Path:
        path = RunFiles(job.directory, job.name).model
        if not path.is_file():
            raise FileNotFoundError(f"training has left no model {path}")
        return path

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        return read_history(RunFiles(job.directory, job.name).history)
