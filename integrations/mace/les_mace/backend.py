"""MACE as a backend of the command line and the benchmarks."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from les.backends import Backend, EpochRecord, TrainingJob
from les.training.charges import CHARGE_FIELDS
from les_mace.features import FEATURES


class MACEBackend(Backend):
    """mace-torch. Nothing of it is imported before it is used."""

    name = "mace"
    features = FEATURES
    package = "les_mace"
    distribution = "mace-torch"
    symbol = "mace.modules.models:ScaleShiftMACE"
    model_suffixes = (".pt", ".model")
    has_heads = True

    def problem(self) -> str | None:
        from les_mace.quiet import quiet_import

        with quiet_import():
            return super().problem()

    def convert(self, source: Path, target: Path, *, allow_pickle: bool = False) -> None:
        self.require()
        self.require_ending(target)
        from les_mace.checkpoint import load_model, save_model

        model = load_model(source, allow_pickle=allow_pickle)
        try:
            save_model(model, target)
        except TypeError as error:
            raise ValueError(f"{source}: {error}") from error

    def training_arguments(self, job: TrainingJob) -> list[str]:
        keys = [f"--{label}_key=REF_{label}" for label in ("energy", "forces", "stress")]
        return [*job.options("max_num_epochs"), *keys, "--restart_latest", *job.extra]

    def trained_model(self, job: TrainingJob) -> Path:
        # Upstream's pickle of a second stage has a name of its own.
        for name in (f"{job.name}.pt", f"{job.name}_stagetwo.model", f"{job.name}.model"):
            path = job.directory / name
            if path.is_file():
                return path
        raise FileNotFoundError(f"mace-torch has left no model {job.directory / job.name}.model")

    def history(self, job: TrainingJob) -> list[EpochRecord]:
        path = job.directory / "results" / f"{job.name}_run-{job.seed}_train.txt"
        losses: dict[int, list[float]] = defaultdict(list)
        seconds: dict[int, float] = defaultdict(float)
        validation: dict[int, dict[str, Any]] = {}
        # A restarted run appends; of an epoch done twice the later half-epoch adds up to
        # more steps, so each epoch starts afresh when its first record comes again.
        previous_mode = ""
        for line in path.read_text().splitlines():
            record = json.loads(line)
            epoch = record["epoch"]
            if epoch is None:  # validation before the first step
                previous_mode = ""
                continue
            if record["mode"] == "opt":
                if previous_mode != "opt":
                    losses[epoch], seconds[epoch] = [], 0.0
                losses[epoch].append(record["loss"])
                seconds[epoch] += record["time"]
            else:
                validation[epoch] = record
            previous_mode = record["mode"]
        return [
            EpochRecord(
                epoch=epoch,
                seconds=seconds[epoch],
                train_loss=sum(losses[epoch]) / len(losses[epoch]),
                valid_loss=validation.get(epoch, {}).get("loss"),
                valid_energy_rmse=validation.get(epoch, {}).get("rmse_e_per_atom"),
                valid_force_rmse=validation.get(epoch, {}).get("rmse_f"),
                valid_bec_rmse=validation.get(epoch, {}).get("rmse_bec"),
                valid_dipole_rmse=validation.get(epoch, {}).get("rmse_mu"),
                **{name: validation.get(epoch, {}).get(name) for name in CHARGE_FIELDS},
            )
            for epoch in sorted(losses)
        ]
