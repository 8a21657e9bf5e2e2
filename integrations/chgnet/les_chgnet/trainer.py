"""Upstream's trainer, in runs that can be killed at any moment and continued."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from chgnet.trainer import Trainer
from tqdm import tqdm

from les.backend import EpochRecord
from les.files import replacing
from les_chgnet.model import plain_dict

if TYPE_CHECKING:
    from chgnet.model import CHGNet
    from torch.utils.data import DataLoader

#: Target -> name of its error in a table, unit, factor from upstream's unit.
COLUMNS = {
    "e": ("energy", "meV/atom", 1000.0),
    "f": ("forces", "meV/A", 1000.0),
    "s": ("stress", "GPa", 1.0),
    "m": ("magmoms", "mu_B", 1.0),
}


class Errors:
    """Loss and errors of an epoch, gathered from what upstream's criterion compares."""

    def __init__(self) -> None:
        self.loss_sum, self.n_batches = 0.0, 0
        self.squares: dict[str, float] = {}
        self.sizes: dict[str, int] = {}
        self.magnitudes: dict[str, float] = {}

    def add(self, criterion: torch.nn.Module, inputs: tuple[Any, ...], out: dict[str, Any]) -> None:
        """Forward hook of the criterion."""
        targets, prediction = inputs
        self.loss_sum += float(out["loss"].detach())
        self.n_batches += 1
        for letter, expected in targets.items():
            pairs = [(expected, prediction[letter])]
            if letter != "e":
                pairs = [x for x in zip(expected, prediction[letter]) if x[0] is not None]
            for label, predicted in pairs:
                error = predicted.detach() - label
                self.squares[letter] = self.squares.get(letter, 0.0) + float(error.square().sum())
                self.magnitudes[letter] = self.magnitudes.get(letter, 0.0) + float(
                    error.abs().sum()
                )
                self.sizes[letter] = self.sizes.get(letter, 0) + error.numel()

    def loss(self) -> float:
        """Mean over batches."""
        return self.loss_sum / max(self.n_batches, 1)

    def rmse(self, letter: str) -> float | None:
        """Root mean square error, over all components [upstream's units]."""
        size = self.sizes.get(letter)
        return math.sqrt(self.squares[letter] / size) if size else None

    def mae(self, letter: str) -> float | None:
        """Mean absolute error, over all components [upstream's units]."""
        size = self.sizes.get(letter)
        return self.magnitudes[letter] / size if size else None


class ResumableTrainer(Trainer):
    """Upstream's ``Trainer``, which keeps its state in ``checkpoint``, safely.

    After each epoch there is one file with the model, the optimiser and the learning curve, and
    one with the model of the lowest validation loss; a file is at any moment the old or the new
    one. (Upstream removes the old one first.)

    Args:
        model: model to train.
        checkpoint: file for the state after each epoch.
        best: file for the best model.
        history: JSON file for the learning curve.
        settings: what a run that continues this one must agree with.
        trainer_args: as for ``Trainer``.
    """

    def __init__(
        self,
        model: CHGNet,
        *,
        checkpoint: Path,
        best: Path,
        history: Path,
        settings: dict[str, Any],
        **trainer_args: Any,
    ) -> None:
        super().__init__(model, **trainer_args)
        self.checkpoint, self.best, self.history = checkpoint, best, history
        self.settings = settings
        self.records: list[EpochRecord] = []
        self.errors = Errors()
        self.progress: tqdm[Any] | None = None
        self.criterion.register_forward_hook(lambda *call: self.errors.add(*call))

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue after the epoch in ``state``, the content of a checkpoint.

        Raises:
            ValueError: if the settings differ, or ``state`` is not one of this class.
        """
        if not {"settings", "history", "random_state"} <= set(state):
            raise ValueError(f"{self.checkpoint} holds no state of `les train chgnet`")
        for key in sorted({*state["settings"], *self.settings}):
            before, now = state["settings"].get(key), self.settings.get(key)
            if before != now:
                raise ValueError(
                    f"{self.checkpoint} is of a run with `{key}` = {before!r}, this one has "
                    f"{now!r}; use the same settings, or another --name or --work_dir"
                )
        self.model.load_state_dict(state["model"]["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.training_history = state["training_history"]
        self.records = [EpochRecord(**record) for record in state["history"]]
        self.starting_epoch = len(self.records)
        self._write_history()  # the run may have been killed before it could
        torch.set_rng_state(state["random_state"])

    def train(self, train_loader: DataLoader, val_loader: DataLoader, **options: Any) -> None:
        """As upstream's, with a progress bar.

        Raises:
            ValueError: if the errors become NaN, where upstream ends the run.
        """
        with tqdm(total=self.epochs, initial=self.starting_epoch, unit="epoch") as self.progress:
            super().train(train_loader, val_loader, save_dir=str(self.checkpoint.parent), **options)
        if len(self.records) < self.epochs:
            raise ValueError(
                f"training diverged: errors became NaN in epoch {len(self.records)}; try a lower "
                f"--learning_rate. The state before, if there is one, is in {self.checkpoint}"
            )

    def _train(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.errors = Errors()
        start = time.perf_counter()
        mean_errors = super()._train(*args, **kwargs)
        self.train_seconds, self.train_loss = time.perf_counter() - start, self.errors.loss()
        return mean_errors

    def _validate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.errors = Errors()
        return super()._validate(*args, **kwargs)

    def save_checkpoint(self, epoch: int, mae_error: dict[str, float], save_dir: str) -> None:
        """Write the state after ``epoch``; called by upstream."""
        record = EpochRecord(
            epoch=epoch,
            seconds=self.train_seconds,
            train_loss=self.train_loss,
            valid_loss=self.errors.loss(),
            valid_energy_rmse=self.errors.rmse("e"),
            valid_force_rmse=self.errors.rmse("f"),
        )
        before = [x.valid_loss for x in self.records if x.valid_loss is not None]
        self.records.append(record)
        # The best model first: where only that was written, the epoch is done again.
        if not before or self.errors.loss() < min(before):
            self.save(str(self.best))
        self.save(str(self.checkpoint))
        self._write_history()
        if self.progress is not None:
            texts = [
                f"{COLUMNS[key][0]} {COLUMNS[key][2] * value:.3g} {COLUMNS[key][1]}"
                for key, value in mae_error.items()
            ]
            self.progress.set_postfix_str("validation MAE: " + ", ".join(texts), refresh=False)
            self.progress.update()

    def _write_history(self) -> None:
        records = [dataclasses.asdict(x) for x in self.records]
        with replacing(self.history) as temporary:
            temporary.write_text(json.dumps(records, indent=1), encoding="utf-8")

    def save(self, filename: str = "training_result.pth.tar") -> None:
        """Write the state, of which all is plain values."""
        state = {
            "model": plain_dict(self.model.as_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "training_history": self.training_history,
            "trainer_args": self.trainer_args,
            "history": [dataclasses.asdict(x) for x in self.records],
            "settings": self.settings,
            "random_state": torch.get_rng_state(),
        }
        with replacing(filename) as temporary:
            torch.save(state, temporary)

    def evaluate(self, loader: DataLoader) -> dict[str, tuple[float | None, float | None]]:
        """MAE and RMSE of each target, in the units of :data:`COLUMNS`."""
        self._validate(loader)

        def scaled(value: float | None, letter: str) -> float | None:
            return None if value is None else COLUMNS[letter][2] * value

        return {
            letter: (
                scaled(self.errors.mae(letter), letter),
                scaled(self.errors.rmse(letter), letter),
            )
            for letter in self.targets
        }
