"""NequIP and Allegro as backends of the command line and the benchmarks."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any, ClassVar

from les.backends import Backend, EpochRecord, TrainingJob
from les.training.charges import CHARGE_FIELDS
from les_nequip.features import FEATURES

logger = logging.getLogger("les")


class NequIPBackend(Backend):
    """nequip. Nothing of it is imported before it is used."""

    name = "nequip"
    features = FEATURES
    package = "les_nequip"
    distribution = "nequip"
    symbol = "nequip.model:NequIPGNNModel"
    model_suffixes: ClassVar[tuple[str, ...]] = (
        ".nequip.pt",  # MACE has .pt
        ".ckpt",
        ".nequip.zip",
        ".nequip.pt2",
    )
    config_folder = "configs/nequip"

    def calculator(self, model: str | Path, *, dtype: str = "float64", **options: Any) -> Any:
        # The others compute in the precision they were built for.
        any_precision = str(model).endswith((".nequip.pt", ".ckpt"))
        calculator = super().calculator(model, dtype=dtype if any_precision else "", **options)
        if calculator.precision != dtype:
            logger.warning("%s computes in %s, not %s", model, calculator.precision, dtype)
        return calculator

    def training_arguments(self, job: TrainingJob) -> list[str]:
        return [
            *job.options(),
            "--resume",
            # Upstream's log is in the folder's output already.
            "hydra/job_logging=stdout",
            "++trainer.enable_progress_bar=false",
            *job.extra,
        ]

    def trained_model(self, job: TrainingJob) -> Path:
        path = job.directory / f"{job.name}.nequip.pt"
        if not (path.is_file() and (job.directory / job.name / "finished").is_file()):
            raise FileNotFoundError(f"{self.distribution} has not finished {path}")
        return path

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        # Each start of a run, first or continued, has its own folder; a later one may do
        # the last epoch again.
        folders = sorted((job.directory / job.name / "logs").glob("version_*"), key=_version)
        epochs: dict[int, dict[str, float]] = {}
        for folder in folders:
            started = set()
            for row in _rows(folder / "metrics.csv"):
                epoch = int(row.pop("epoch"))
                if epoch not in started:
                    started.add(epoch)
                    epochs[epoch] = {}
                epochs[epoch].update(row)
        return [
            EpochRecord(
                epoch=epoch,
                seconds=values.get("train_seconds"),
                train_loss=values.get("train_loss_epoch/weighted_sum"),
                valid_loss=values.get("val0_epoch/weighted_sum"),
                valid_energy_rmse=values.get("val0_epoch/per_atom_energy_rmse"),
                valid_force_rmse=values.get("val0_epoch/forces_rmse"),
                valid_bec_rmse=values.get("val0_epoch/born_effective_charges_rmse"),
                valid_dipole_rmse=values.get("val0_epoch/les_dipole_rmse"),
                **{name: values.get(name) for name in CHARGE_FIELDS},
            )
            for epoch, values in sorted(epochs.items())
        ]


class AllegroBackend(NequIPBackend):
    """nequip-allegro, an extension of nequip with a program and files of its kind."""

    name = "allegro"
    distribution = "nequip-allegro"
    symbol = "allegro.model:AllegroModel"
    model_suffixes = ()  # its models are nequip's
    config_folder = "configs/allegro"


def _version(folder: Path) -> int:
    return int(folder.name.partition("_")[2])


def _rows(path: Path) -> list[dict[str, float]]:
    """Lines of a CSV file without the values they leave out."""
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
