"""Born effective charges and dipoles in upstream's losses and metrics."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from nequip.data import AtomicDataDict, BaseModifier
from nequip.train import MeanAbsoluteError, MeanSquaredError, MetricsManager, RootMeanSquaredError
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from les.response.gauge import orient_charges
from les_nequip.keys import LES_DIPOLE_KEY
from les_nequip.overrides import set_section
from les_nequip.sections import ADD_LES, LES
from les_nequip.slot import MODEL

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

#: Label of a response -> upstream's field, or ours.
RESPONSE_FIELDS = {"bec": AtomicDataDict.BORN_CHARGE_KEY, "dipole": LES_DIPOLE_KEY}

#: Names of errors, as upstream's.
ERRORS = {"mse": MeanSquaredError, "rmse": RootMeanSquaredError, "mae": MeanAbsoluteError}


def WithResponses(
    metrics: Callable[..., MetricsManager],
    coeffs: Mapping[str, float],
    error: str = "mse",
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """A loss or metrics of upstream with terms of responses, in which structures may lack labels.

    For the sections ``loss`` and ``val_metrics`` of a configuration::

        loss:
          _target_: les_nequip.WithResponses
          coeffs: {born_effective_charges: 10.0}
          metrics:
            _target_: nequip.train.EnergyForceLoss
            _partial_: true

    Labels that are NaN do not count, in any term, and what a batch has none of is zero.

    Args:
        metrics: makes upstream's metrics, of which no term may be one per type.
        coeffs: field -> coefficient, beside those of ``metrics``.
        error: ``"mse"``, ``"rmse"`` or ``"mae"``.
        type_names: names of the model's atom types (upstream passes them).

    Raises:
        ValueError: for terms per type and an unknown ``error``.
    """
    if error not in ERRORS:
        raise ValueError(f"`error` must be one of {', '.join(ERRORS)}, got {error!r}")
    ours = [
        {
            "name": f"{field}_{error}",
            "field": _Response(field),
            "coeff": coeff,
            "metric": ERRORS[error](),
            "ignore_nan": True,
        }
        for field, coeff in coeffs.items()
    ]
    # Upstream's functions take further terms by one name, its class all terms by another.
    taken = inspect.signature(metrics).parameters
    name = "extra_metrics" if "extra_metrics" in taken else "metrics"
    given = getattr(metrics, "keywords", {}).get(name) or []
    manager = metrics(type_names=type_names, **{name: [*given, *ours]})
    #: Field -> whether upstream's own term allows NaN, of all that have a coefficient.
    strict = {}
    for name, entry in manager.entries.items():
        if entry.per_type:
            raise ValueError(
                f"the term {name!r} of the loss or metrics is one per type, which is not possible "
                "beside responses: structures may lack its label"
            )
        if entry.field is not None and entry.coeff and entry.field.field not in coeffs:
            strict[entry.field.field] = entry.ignore_nan
        entry.ignore_nan = entry.field is not None
        _of_any(manager[name])
    manager.before_responses = strict
    return manager


class _Response(BaseModifier):  # type: ignore[misc]
    """A response of the model and its labels; without labels in a batch it is not computed."""

    def __call__(self, data1: Any, data2: Any = None) -> Any:
        if data2 is None:
            return data1[self.field]
        target = data2[self.field]
        if self.field in data1:
            return data1[self.field], target
        if not torch.isnan(target).all():
            raise ValueError(
                f"the model has not computed {self.field}, of which the batch has labels; name the "
                "callback les_nequip.ComputeResponses in the configuration"
            )
        return torch.zeros_like(target), target


def _of_any(metric: Any) -> None:
    """Let the mean of nothing be zero."""
    if not hasattr(metric, "count"):
        return
    compute = metric.compute

    @functools.wraps(compute)
    def mean() -> Tensor:
        value: Tensor = compute() if bool(metric.count) else metric.sum * 1.0
        return value

    metric.compute = mean


class ComputeResponses(Callback):  # type: ignore[misc]
    """Has the model compute responses where a batch has labels of them.

    Before the first step it gives the charges the sign that follows from chemistry
    (``les.response.gauge``), with which labels are compared.

    Args:
        orient: do the latter; not for a model that was trained on responses before.
    """

    def __init__(self, orient: bool = True) -> None:
        super().__init__()
        self.orient = orient

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.orient or trainer.global_step > 0:  # a run that is continued
            return

        def negate() -> None:
            for module in _les_modules(pl_module):
                module.readout.negate()

        def negate_all() -> None:
            negate()
            average = getattr(pl_module, "ema", None)
            if average is not None:
                average.swap_parameters(pl_module.model)
                negate()
                average.swap_parameters(pl_module.model)

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


def _les_sections(section: Any) -> Iterator[dict[str, Any]]:
    """The settings of LES in a section of a configuration that builds a model."""
    if isinstance(section, dict):
        if section.get("_target_") in LES:
            yield section
        elif section.get("_target_") in ADD_LES:
            yield section.setdefault("les", {})
        for value in section.values():
            yield from _les_sections(value)
    elif isinstance(section, list):
        for value in section:
            yield from _les_sections(value)


def _les_modules(pl_module: LightningModule) -> list[Any]:
    return [module for module in pl_module.modules() if getattr(module, "is_les", False)]


def _charges(trainer: Trainer, pl_module: LightningModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Charges and atomic numbers of each structure that is trained on."""
    dataset = trainer.train_dataloader.dataset
    for index in range(len(dataset)):
        batch = AtomicDataDict.batched_from_list([dict(dataset[index])])
        batch = AtomicDataDict.to_(batch, pl_module.device)
        numbers = batch[AtomicDataDict.ATOMIC_NUMBERS_KEY].reshape(-1)
        with torch.enable_grad():
            out = pl_module(batch)
        yield out[AtomicDataDict.CHARGE_KEY].detach().reshape(-1), numbers


def with_responses(config: DictConfig, weights: Mapping[str, float]) -> list[str]:
    """Overrides of ``config`` that put responses with ``weights`` into its loss and metrics.

    The coefficient of a root mean square error in the metrics, which decide the best epoch, is the
    square root of the weight.

    Raises:
        ValueError: for a configuration without a loss, and models that are compiled to be trained.
    """
    if not weights:
        return []
    if OmegaConf.select(config, "training_module.model.compile_mode") == "compile":
        raise ValueError(
            "Born effective charges and dipoles cannot be trained with `compile_mode: compile`; "
            "set training_module.model.compile_mode=eager"
        )
    overrides = []
    for section, error, power in (("loss", "mse", 1.0), ("val_metrics", "rmse", 0.5)):
        key = f"training_module.{section}"
        node = OmegaConf.select(config, key)
        if node is None and section == "loss":
            raise ValueError("the configuration has no `training_module.loss` to add responses to")
        if node is None:
            continue
        value = {
            "_target_": "les_nequip.WithResponses",
            "coeffs": {RESPONSE_FIELDS[x]: math.pow(w, power) for x, w in weights.items()},
            "error": error,
            "metrics": {**OmegaConf.to_container(node, resolve=False), "_partial_": True},
        }
        overrides += set_section(key, value, exists=True)
    model = OmegaConf.to_container(OmegaConf.select(config, MODEL), resolve=False)
    sections = list(_les_sections(model))
    callback = {
        "_target_": "les_nequip.ComputeResponses",
        "orient": not any(section.get("sign") == "trained" for section in sections),
    }
    for les in sections:
        les["sign"] = "trained"
    overrides += set_section(MODEL, model, exists=True)
    callbacks = OmegaConf.select(config, "trainer.callbacks")
    plain = [] if callbacks is None else list(OmegaConf.to_container(callbacks, resolve=False))
    plain.append(callback)
    return [*overrides, *set_section("trainer.callbacks", plain, exists=callbacks is not None)]
