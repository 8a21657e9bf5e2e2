"""How charges are trained, where that differs from the rest: first, or at their own rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from les.training.freezing import FrozenShortRange
from les_nequip.configured import is_compiled
from les_nequip.overrides import add_callback, set_section

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

#: The section of an optimiser that says which weights have which learning rate.
GROUPS = "training_module.optimizer.param_groups"


def charge_overrides(
    config: DictConfig, epochs: int | None = None, learning_rate: float | None = None
) -> list[str]:
    """Overrides of ``config`` that have charges trained first, or at their own rate.

    Args:
        config: the configuration of the run.
        epochs: number of epochs in which only the charges are trained.
        learning_rate: that of the charges.

    Raises:
        ValueError: for ``epochs`` with a model that is compiled to be trained, all of it.
    """
    overrides = []
    if epochs is not None:
        if is_compiled(config):
            raise ValueError(
                "--freeze_short_range_epochs is not possible with `compile_mode: compile`; set "
                "training_module.model.compile_mode=eager"
            )
        callback = {"_target_": "les_nequip.ChargesFirst", "epochs": epochs}
        overrides += add_callback(config, callback)
    if learning_rate is not None:
        node = OmegaConf.select(config, GROUPS)
        value = {"_target_": "les_nequip.ChargeParamGroups", "learning_rate": learning_rate}
        if node is not None:
            value["groups"] = {**OmegaConf.to_container(node, resolve=False), "_partial_": True}
        overrides += set_section(GROUPS, value, exists=node is not None)
    return overrides


def ChargeParamGroups(
    model: torch.nn.Module,
    learning_rate: float,
    groups: Callable[..., list[dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser, in which the charges have their own learning rate.

    For the section ``training_module.optimizer.param_groups`` of a configuration::

        param_groups:
          _target_: les_nequip.ChargeParamGroups
          learning_rate: 0.02
          groups:  # those of all other weights; without, what the optimiser itself says
            _target_: nequip.model.MuonParamGroups
            _partial_: true
            muon: {lr: 0.05}
            adam: {lr: 0.01}

    Args:
        model: the model that is trained (upstream passes it).
        learning_rate: the learning rate of the charges.
        groups: makes the groups, from which the parameters of the charges are separated.

    Raises:
        ValueError: for a model without charges.
    """
    charges = {id(parameter) for parameter in _charge_parameters(model)}
    if not charges:
        raise ValueError("`learning_rate` is that of charges, which the model does not have")
    found = [{"params": list(model.parameters())}] if groups is None else groups(model=model)
    result = []
    for group in found:
        own = [parameter for parameter in group["params"] if id(parameter) in charges]
        if own and group.get("use_muon"):
            raise ValueError("the weights of charges cannot be among those of Muon")
        others = [parameter for parameter in group["params"] if id(parameter) not in charges]
        result += [{**group, "params": others}] * bool(others)
        result += [{**group, "params": own, "lr": learning_rate}] * bool(own)
    return result


class ChargesFirst(Callback):  # type: ignore[misc]
    """Trains only the charges in the first epochs.

    Args:
        epochs: number of epochs.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.frozen: FrozenShortRange | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        charges = list(_charge_parameters(pl_module))
        if not charges:
            raise ValueError("the model has no charges that could be trained first")
        self.frozen = FrozenShortRange(pl_module, charges, self.epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.frozen is not None
        self.frozen.start_epoch(trainer.current_epoch)


def _charge_parameters(model: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """The weights that charges alone depend on."""
    for module in model.modules():
        if getattr(module, "is_les", False):
            yield from module.parameters()
