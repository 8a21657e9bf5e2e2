"""Atomic energies that are fitted to the model in the course of a training."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from nequip.data import AtomicDataDict
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from les.training.composition import energies_per_element
from les_nequip.overrides import add_callback, set_section
from les_nequip.stages import SecondStage
from les_nequip.upstream_training import averaged_weights, training_structures

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger("les")

#: End of the names of the callback below in configurations.
NAME = ".FitAtomicEnergies"
#: Name of upstream's module that adds atomic energies; a packaged model has a copy of its class.
SHIFTED = "PerTypeScaleShift"


class FitAtomicEnergies(Callback):  # type: ignore[misc]
    """Fits atomic energies to the model as it starts, and again when its second stage begins.

    These energies are ``per_type_energy_shifts``; the fit adds what each type contributes to the
    differences between labels and the model, in the sense of least squares. The second stage is
    that of :class:`les_nequip.SecondStage`. A model without such an energy of each type is left as
    it is, with a warning. Name it among ``trainer.callbacks``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.second = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stages = [each for each in trainer.callbacks if isinstance(each, SecondStage)]
        second = any(trainer.current_epoch >= each.first_epoch(trainer) for each in stages)
        if trainer.global_step == 0 or (second and not self.second):
            with torch.no_grad():
                fit_atomic_energies(trainer, pl_module)
        self.second = second

    def state_dict(self) -> dict[str, Any]:
        """Whether the second stage had begun: a run that is continued does not fit again."""
        return {"second": self.second}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.second = state_dict["second"]


def energy_overrides(config: DictConfig, choice: str | None) -> list[str]:
    """Overrides of ``config`` by which atomic energies are fitted, or kept.

    Args:
        config: the configuration of the run.
        choice: ``"fit"``, ``"keep"``, or ``None`` for what the configuration says.
    """
    found = OmegaConf.select(config, "trainer.callbacks")
    callbacks = [] if found is None else list(OmegaConf.to_container(found, resolve=False))
    others = [each for each in callbacks if not str(each.get("_target_")).endswith(NAME)]
    fits = len(others) < len(callbacks)
    if choice == "fit" and not fits:
        return add_callback(config, {"_target_": f"les_nequip{NAME}"})
    if choice == "keep" and fits:
        return set_section("trainer.callbacks", others, exists=True)
    return []


def fit_atomic_energies(trainer: Trainer, pl_module: LightningModule) -> None:
    """Shift the atomic energies to the labels that are trained on, for the model as it is now."""
    shifted: list[Any] = [each for each in pl_module.modules() if type(each).__name__ == SHIFTED]
    if len(shifted) != 1 or shifted[0].shifts.numel() != shifted[0].num_types:
        logger.warning(
            "atomic energies are not fitted: that needs one model with `per_type_energy_shifts` of "
            "each type"
        )
        return
    (module,) = shifted
    training = pl_module.training
    with averaged_weights(pl_module):
        pl_module.eval()  # no graph for gradients of forces
        types, residuals = _residuals(trainer, pl_module)
        pl_module.train(training)
        if not residuals:
            return
        found = energies_per_element(types, residuals, module.num_types)
        shift = torch.as_tensor(found).reshape(-1, 1).to(module.shifts)
        shift = trainer.strategy.broadcast(shift)  # which rounds otherwise on other ranks
        if isinstance(module.shifts, torch.nn.Parameter):  # which has an average of its own
            module.shifts.add_(shift)
    module.shifts.add_(shift)


def _residuals(trainer: Trainer, pl_module: LightningModule) -> tuple[list[list[int]], list[float]]:
    """Types from 1, and label minus model per atom [eV], of structures that have an energy."""
    types: list[list[int]] = []
    residuals: list[float] = []
    key = AtomicDataDict.TOTAL_ENERGY_KEY
    labelled = (
        data
        for data in training_structures(trainer)
        if key in data and torch.isfinite(data[key]).all()
    )
    while structures := list(itertools.islice(labelled, trainer.train_dataloader.batch_size or 1)):
        batch = AtomicDataDict.batched_from_list(structures)
        batch = AtomicDataDict.to_(batch, pl_module.device)
        expected = batch[key].reshape(-1)
        n_atoms = batch[AtomicDataDict.NUM_NODES_KEY].reshape(-1)
        own: Tensor = batch[AtomicDataDict.ATOM_TYPE_KEY].reshape(-1) + 1
        types += [each.tolist() for each in own.split(n_atoms.tolist())]
        predicted = pl_module(batch)[key].detach().reshape(-1)
        residuals += ((expected - predicted) / n_atoms).tolist()
    return types, residuals
