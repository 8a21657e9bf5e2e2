"""CHGNet as a backend of the command line and the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from les.backend import Backend, EpochRecord, TrainingJob
from les.training.history import read_history

if TYPE_CHECKING:
    from collections.abc import Sequence


class CHGNetBackend(Backend):
    """chgnet, trained from scratch. Nothing of it is imported before it is used."""

    name = "chgnet"
    package = "les_chgnet"
    config_folder = "configs/scratch"
    distribution = "chgnet"
    symbol = "chgnet.model.model:BatchedGraph"
    model_suffixes: ClassVar[tuple[str, ...]] = (".pth.tar",)
    #: Model that training starts from if the arguments name none.
    start: ClassVar[str | None] = None

    def train(self, arguments: Sequence[str], *, les: bool) -> None:
        self.require()
        from les_chgnet.training import train

        train(arguments, les=les, start=self.start)

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
        from les_chgnet.calculator import LESCalculator

        return LESCalculator(
            model, use_device=device, dtype=dtype, bec=bec, allow_pickle=allow_pickle
        )

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
        path = job.directory / f"{job.name}.pth.tar"
        if not path.is_file():
            raise FileNotFoundError(f"training has left no model {path}")
        return path

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        path = job.directory / f"{job.name}_history.json"
        return read_history(path)


class PretrainedCHGNetBackend(CHGNetBackend):
    """chgnet, fine-tuned from the universal model that comes with it."""

    name = "chgnet-pretrained"
    extra = "chgnet"
    config_folder = "configs/pretrained"
    start = "0.3.0"
    model_suffixes = ()  # its files are those of `chgnet`, which reads them
