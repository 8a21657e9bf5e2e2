"""What a run reports about itself beyond upstream's metrics."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

#: Name of the time in the logs: wall time of an epoch's training steps, data loading
#: included and validation excluded [s].
SECONDS = "train_seconds"
#: File in the trainer's ``default_root_dir`` that says that training came to its end.
FINISHED = "finished"


class Progress(Callback):
    """Logs the time of each epoch and marks a run that has finished.

    To be named among ``trainer.callbacks``.
    """

    _start = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _marker(trainer).unlink(missing_ok=True)  # of a shorter run that is now continued

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:  # validation lies inside the training epoch
            self._start += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log(SECONDS, time.perf_counter() - self._start)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            _marker(trainer).touch()


def _marker(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / FINISHED
