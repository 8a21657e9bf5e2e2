"""What a run reports about itself beyond upstream's metrics."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from nequip.data import AtomicDataDict

from les.training.charges import ChargeStatistics, charges_in_words
from les_nequip.keys import LES_ENERGY_KEY

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger("les")

#: Name of the time in the logs: wall time of an epoch's training steps, data loading
#: included and validation excluded [s].
SECONDS = "train_seconds"
#: File in the trainer's ``default_root_dir`` that says that training came to its end.
FINISHED = "finished"


class Progress(Callback):
    """Logs the time of each epoch and the sizes of charges, and marks a run that has finished.

    To be named among ``trainer.callbacks``. The charges are those of the first validation set, and
    are logged under the names of ``les.training.charges.CHARGE_FIELDS``.
    """

    _start = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._charges = ChargeStatistics()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _marker(trainer).unlink(missing_ok=True)  # of a shorter run that is now continued

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._charges = ChargeStatistics()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        output = outputs.get(f"val_{dataloader_idx}_output", {})
        if dataloader_idx > 0 or LES_ENERGY_KEY not in output:
            return
        charges = output[AtomicDataDict.CHARGE_KEY].reshape(-1)
        structure = output.get(AtomicDataDict.BATCH_KEY, charges.new_zeros(len(charges)).long())
        self._charges.add(charges, structure, output[LES_ENERGY_KEY])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = self._charges.values()
        if trainer.sanity_checking or not values:
            return
        pl_module.log_dict(values)
        if trainer.is_global_zero:
            logger.info("epoch %d: %s", trainer.current_epoch, charges_in_words(values))

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
