"""What upstream's trainer holds: the structures to train on, and averages of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from nequip.data import AtomicDataDict


def training_structures(trainer: Trainer) -> Iterator[AtomicDataDict.Type]:
    """Each structure that is trained on."""
    dataset = trainer.train_dataloader.dataset
    return (dict(dataset[index]) for index in range(len(dataset)))


@contextlib.contextmanager
def averaged_weights(pl_module: LightningModule) -> Iterator[None]:
    """Put the averages of the weights into the model, as validation does, if there are any."""
    average = getattr(pl_module, "ema", None)
    if average is None:
        yield
        return
    average.swap_parameters(pl_module.model)
    try:
        yield
    finally:
        average.swap_parameters(pl_module.model)
