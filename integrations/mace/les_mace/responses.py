"""Born effective charges and dipoles in upstream's loss, metrics and log.

Upstream's losses, batches and evaluations have no Born effective charges, and dipoles only for
models of dipoles.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mace import modules, tools
from mace.cli import run_train
from mace.tools.torch_geometric import Batch
from torch import Tensor, nn

from les.data.extxyz import DataError
from les.data.fragments import FRAGMENT_CHARGE
from les.response.gauge import orient_charges
from les.response.labels import RESPONSES
from les.training.errors import UNITS
from les_mace.charge_metrics import ChargeMetrics
from les_mace.readouts import negate
from les_mace.replaced import replaced, train_module

if TYPE_CHECKING:
    from mace.data import AtomicData
    from mace.tools.multihead_tools import HeadConfig

    from les_mace.model import MACELES


#: Label -> the model's output, and upstream's name of its error.
OUTPUTS = {"bec": "BEC", "dipole": "dipole"}
METRICS = {"bec": "bec", "dipole": "mu"}

#: What upstream's data call the charge of a structure, and of the fragments of its atoms.
CHARGES = ("total_charge", FRAGMENT_CHARGE)


def errors(label: str, ref: Batch, pred: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Deviations of the components that have a label with a weight, and these weights.

    Returns:
        Both ``[n]``.
    """
    weight = ref[f"{label}_weight"].reshape(ref.num_graphs, -1) * ref.weight.view(-1, 1)
    expected = ref[label]
    if label == "bec":
        weight = weight[ref.batch].unsqueeze(-1)
        expected = expected.view(-1, 3, 3)
    weight = weight.expand_as(expected)
    chosen = weight > 0.0
    predicted = pred[OUTPUTS[label]]
    if predicted is None:  # no structure of the batch has the label
        predicted = torch.zeros_like(expected)
    return (predicted - expected)[chosen], weight[chosen]


class ResponseLoss(nn.Module):
    """A loss of upstream plus weighted mean squared errors of responses.

    The mean is over those components of a batch that have a label with a weight.

    Args:
        loss: upstream's.
        weights: label -> weight.
    """

    def __init__(self, loss: nn.Module, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.loss, self.weights = loss, dict(weights)

    def forward(self, ref: Batch, pred: Mapping[str, Any], ddp: bool | None = None) -> Tensor:
        total: Tensor = self.loss(ref, pred, ddp)
        for label, weight in self.weights.items():
            deviation, weights = errors(label, ref, pred)
            if deviation.numel():
                total = total + weight * (weights * deviation.square()).mean()
        return total

    def extra_repr(self) -> str:
        return ", ".join(f"{label}_weight={weight}" for label, weight in self.weights.items())


class ResponseMetrics(ChargeMetrics):
    """Upstream's errors of an evaluation, with those of Born effective charges.

    Structures without a label do not count in its errors.
    """

    def __init__(self, loss_fn: nn.Module) -> None:
        super().__init__(loss_fn)
        self.add_state("delta_bec", default=[], dist_reduce_fx="cat")

    def update(self, batch: Batch, output: Mapping[str, Any]) -> None:
        super().update(batch, output)
        if output.get("dipole") is not None:
            given = batch.weight * batch.dipole_weight.amax(dim=1) > 0.0
            self.delta_mus_per_atom[-1] = self.delta_mus_per_atom[-1][given]
        if output.get("BEC") is not None:
            self.delta_bec.append(errors("bec", batch, output)[0].detach())

    def compute(self) -> tuple[float, dict[str, Any]]:
        loss, metrics = super().compute()
        if self.delta_bec:
            deviation = self.convert(self.delta_bec)
            metrics["mae_bec"] = tools.utils.compute_mae(deviation)
            metrics["rmse_bec"] = tools.utils.compute_rmse(deviation)
        return loss, metrics


def _ask_for_bec(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hook of the model: Born effective charges are computed where a structure has labels."""
    weight = args[0].get("bec_weight")
    needed = weight is not None and bool((weight > 0.0).any())
    return args, {**kwargs, "compute_bec": needed}


@contextlib.contextmanager
def trained_responses(weights: Mapping[str, float]) -> Iterator[None]:
    """Let upstream train on responses, too; with no ``weights`` nothing changes.

    Args:
        weights: label -> weight in the loss.
    """
    if not weights:
        yield
        return

    def get_loss(*args: Any, **kwargs: Any) -> nn.Module:
        return ResponseLoss(loss_of(*args, **kwargs), weights)

    def get_swa(*args: Any, **kwargs: Any) -> Any:
        swa, swas = swa_of(*args, **kwargs)
        swa.loss_fn = ResponseLoss(swa.loss_fn, weights)
        return swa, swas

    def train(*args: Any, **kwargs: Any) -> Any:
        hook = kwargs["model"].register_forward_pre_hook(_ask_for_bec, with_kwargs=True)
        try:
            return train_with(*args, **kwargs)
        finally:
            hook.remove()  # or upstream's pickle would have it

    def table(*args: Any, **kwargs: Any) -> Any:
        return table_of(*args, **{**kwargs, "loss_fn": kwargs["loss_fn"].loss})

    def log(loss: Any, metrics: Any, *args: Any, **kwargs: Any) -> None:
        log_of(loss, metrics, *args, **kwargs)
        found = {label: metrics.get(f"rmse_{METRICS[label]}") for label in weights}
        texts = [f"RMSE_{x}={value:8.4f} {UNITS[x][0]}" for x, value in found.items() if value]
        logging.info("  responses: %s", ", ".join(texts))

    loss_of, swa_of = run_train.get_loss_fn, run_train.get_swa
    train_with, table_of, log_of = (
        tools.train,
        run_train.create_error_table,
        train_module.valid_err_log,
    )
    with (
        replaced(run_train, "get_loss_fn", get_loss),
        replaced(run_train, "get_swa", get_swa),
        replaced(run_train, "create_error_table", table),
        replaced(tools, "train", train),
        replaced(train_module, "valid_err_log", log),
        replaced(train_module, "MACELoss", ResponseMetrics),
    ):
        yield


@contextlib.contextmanager
def scaled_by_energies() -> Iterator[None]:
    """Let upstream scale and shift a model by the structures that have energies and forces."""

    def scaling(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda loader, *rest: original(_with_energies(loader), *rest)

    scalings = {name: scaling(each) for name, each in modules.scaling_classes.items()}
    with replaced(modules, "scaling_classes", scalings):
        yield


def _with_energies(loader: Any) -> Any:
    """Batches of the structures that have energies and forces; upstream takes others' for zero.

    Where all have them this is ``loader``: taking its batches draws random numbers, which what
    comes after depends on.
    """
    kept = [x for x in loader.dataset if x.energy_weight > 0.0 and x.forces_weight > 0.0]
    if not kept or len(kept) == len(loader.dataset):
        return loader
    return [Batch.from_data_list([graph]) for graph in kept]


def with_energies_only(average: Callable[..., Any]) -> Callable[..., Any]:
    """Upstream's mean energies of the elements, of those configurations that have an energy."""

    @functools.wraps(average)
    def averaged(configurations: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = [each for each in configurations if each.properties.get("energy") is not None]
        return average(chosen, *args, **kwargs)

    return averaged


def oriented(
    configure_model: Callable[..., Any], weights: Mapping[str, float]
) -> Callable[..., Any]:
    """Upstream's ``configure_model``, whose model has charges of the right sign to be trained.

    Responses have that sign in them, and so have external fields, and total charges, of a model
    that is given them, in whichever file they are. Without any the sign is left open.

    Raises:
        DataError: if no structure to train on has one of the responses, or none is in a field that
            the model takes.
        ValueError: for Born effective charges of a model that gives only a part of them.
    """

    @functools.wraps(configure_model)
    def configure(args: Any, train_loader: Any, *rest: Any, **keyword: Any) -> Any:
        model, output_args = configure_model(args, train_loader, *rest, **keyword)
        for label in weights:
            if not any((graph[f"{label}_weight"] > 0.0).any() for graph in train_loader.dataset):
                raise DataError(
                    f"no structure to train on has {RESPONSES[label]}, which --{label}_weight is "
                    "for"
                )
        if "bec" in weights and model.bec_output_index is not None:
            raise ValueError(
                "--bec_weight needs all components of the polarisation: the model has only that of "
                f"its `bec_output_index`, {model.bec_output_index}"
            )
        heads = rest[4] if len(rest) > 4 else keyword["head_configs"]
        charged = model.les.config().uses_total_charge and (
            any(map(_is_charged, train_loader.dataset)) or any(map(_has_charged, heads))
        )
        fields = model.les.config().external_field
        if fields and not any(map(_is_in_field, train_loader.dataset)):
            raise DataError(
                "no structure to train on is in an external field, which `external_field` is for; "
                "name the right key with --external_field_key"
            )
        if (weights or charged or fields) and model.les.config().sign == "open":
            charges = _charges(model, train_loader.dataset)
            # Those of hardnesses follow those of charges or electronegativities.
            n_readouts = len(model.readouts) * (2 if model.les.charge_equilibration else 1)
            readouts = list(model.les_readouts)
            odd = readouts[: len(model.readouts)] + readouts[n_readouts:]
            orient_charges(charges, lambda: negate(odd))
            model.les.set_trained_sign()
        return model, output_args

    return configure


def _is_charged(graph: AtomicData) -> bool:
    """Whether upstream's data of a structure have a charge of it, or of one of its fragments."""
    names = [name for name in CHARGES if name in graph.keys]
    return any(bool((graph[name] != 0.0).any()) for name in names)


def _is_in_field(graph: AtomicData) -> bool:
    return bool((graph["external_field"] != 0.0).any())


def _has_charged(head: HeadConfig) -> bool:
    """Whether a structure of a head has a charge, of those that upstream has in memory."""
    sets = head.collections
    if sets is None:
        return False
    tests = (each for _, configurations in sets.tests for each in configurations)
    structures = itertools.chain(sets.train, sets.valid, tests)
    return any(np.any(each.properties.get(name)) for each in structures for name in CHARGES)


def _charges(model: MACELES, dataset: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Charges and atomic numbers of each structure."""
    device = next(model.parameters()).device
    for graph in dataset:
        batch = Batch.from_data_list([graph]).to(device)
        out = model(batch.to_dict(), compute_force=False)
        charges = out["latent_charges"]
        assert charges is not None
        yield charges.detach(), model.atomic_numbers[batch.node_attrs.argmax(dim=1)]
