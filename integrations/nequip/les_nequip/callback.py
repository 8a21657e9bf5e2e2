"""What a training on responses asks of its model: which to compute, and with which sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from nequip.data import AtomicDataDict
from torch import Tensor

from les.response.gauge import orient_charges
from les_nequip.keys import RESPONSE_FIELDS
from les_nequip.upstream_training import averaged_weights, training_structures

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class ComputeResponses(Callback):  # type: ignore[misc]
    """Lets the model compute responses for batches that have labels of them.

    Before the first step it gives the charges the sign that follows from chemistry
    (``les.response.gauge``), which labels have, too. Charges with oxidation states added have
    that sign already, and are left as they are.

    Args:
        orient: choose the sign; false for a model that was trained on responses before.
    """

    def __init__(self, orient: bool = True) -> None:
        super().__init__()
        self.orient = orient

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.orient or trainer.global_step > 0:  # a run that is continued
            return
        modules = _les_modules(pl_module)
        # Copies of earlier releases do not know the setting.
        if any(getattr(each.config, "use_fixed_atomic_charges", False) for each in modules):
            return

        def negate() -> None:
            for module in _les_modules(pl_module):
                module.readout.negate()
                moments = getattr(module, "moments", None)
                if moments is not None:
                    moments.negate()

        def negate_all() -> None:
            negate()
            with averaged_weights(pl_module):
                negate()

        with torch.no_grad():
            orient_charges(_charges(trainer, pl_module), negate_all)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._ask(pl_module, batch)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._ask(pl_module, batch)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._ask(pl_module, batch)

    def _ask(self, pl_module: LightningModule, batch: Any) -> None:
        needed = {
            label: field in batch and bool(torch.isfinite(batch[field]).any())
            for label, field in RESPONSE_FIELDS.items()
        }
        for module in _les_modules(pl_module):
            module.compute_bec, module.compute_dipole = needed["bec"], needed["dipole"]


def _les_modules(pl_module: LightningModule) -> list[Any]:
    return [module for module in pl_module.modules() if getattr(module, "is_les", False)]


def _charges(trainer: Trainer, pl_module: LightningModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Charges and atomic numbers of each structure that is trained on."""
    for structure in training_structures(trainer):
        batch = AtomicDataDict.batched_from_list([structure])
        batch = AtomicDataDict.to_(batch, pl_module.device)
        numbers = batch[AtomicDataDict.ATOMIC_NUMBERS_KEY].reshape(-1)
        with torch.enable_grad():
            out = pl_module(batch)
        yield out[AtomicDataDict.CHARGE_KEY].detach().reshape(-1), numbers
