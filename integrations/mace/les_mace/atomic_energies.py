"""Atomic energies that are fitted again when upstream's stage two begins."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from mace import data
from mace.tools.torch_geometric import DataLoader

from les.training.composition import energies_per_element
from les_mace.replaced import replaced, train_module

if TYPE_CHECKING:
    import argparse

    from mace.modules.models import ScaleShiftMACE

logger = logging.getLogger("les")


@contextlib.contextmanager
def refitted_energies(options: argparse.Namespace) -> Iterator[None]:
    """Let upstream fit atomic energies to the model again, before the first epoch of stage two.

    These are only energies that upstream has averaged over the data. Energies that are given, those
    of isolated atoms, and those of several heads stay as they are.
    """
    if options.atomic_energies == "keep":
        yield
        return
    compute_averages, train_one_epoch = data.compute_average_E0s, train_module.train_one_epoch
    averaged = False
    fitted: bool | None = None  # not known before the first epoch

    @functools.wraps(compute_averages)
    def averages(*args: Any, **kwargs: Any) -> Any:
        nonlocal averaged
        averaged = True
        return compute_averages(*args, **kwargs)

    @functools.wraps(train_one_epoch)
    def train(*args: Any, **kwargs: Any) -> Any:
        nonlocal fitted
        epoch, start = kwargs["epoch"], options.start_swa  # upstream has set it by now
        if fitted is None:
            # A continued run repeats the last epoch that it has kept.
            fitted = epoch >= start if options.swa else True
        if not fitted and epoch >= start:
            fitted = True
            if not averaged:
                logger.info(
                    "atomic energies are not fitted again: they are no averages of the data"
                )
            else:
                with _averaged_weights(kwargs["optimizer"], kwargs["ema"]):
                    fit_atomic_energies(kwargs["model"], kwargs["data_loader"])
        return train_one_epoch(*args, **kwargs)

    with (
        replaced(data, "compute_average_E0s", averages),
        replaced(train_module, "train_one_epoch", train),
    ):
        yield


def fit_atomic_energies(model: ScaleShiftMACE, loader: DataLoader) -> None:
    """Shift the atomic energies of a model to the labels of the structures that ``loader`` loads.

    Structures count alike, but for those whose energy has no weight, which are left out. Nothing
    happens to a model of several heads, or of no energies.
    """
    block = getattr(model, "atomic_energies_fn", None)
    if block is None or block.atomic_energies.numel() != len(model.atomic_numbers):
        logger.info("atomic energies are not fitted again: they are not those of one head")
        return
    energies = block.atomic_energies
    own = energies.flatten().double().clone()
    indices: list[list[int]] = []
    residuals: list[float] = []
    energies.zero_()  # in single precision their sum would lose digits
    for batch in DataLoader(loader.dataset, loader.batch_size):
        batch = batch.to(energies.device)
        inputs = batch.to_dict()
        inputs.pop("bec_weight", None)  # it asks for Born effective charges
        predicted = model(inputs, compute_force=False)["energy"].detach().double()
        n_atoms = batch.ptr[1:] - batch.ptr[:-1]
        elements = batch.node_attrs.argmax(dim=1)
        predicted.index_add_(0, batch.batch, own[elements])
        given = (batch.weight * batch.energy_weight > 0.0).tolist()
        residual = (batch.energy.double() - predicted) / n_atoms
        residuals += [value for value, known in zip(residual.tolist(), given) if known]
        of_structures = (elements + 1).split(n_atoms.tolist())
        indices += [each.tolist() for each, known in zip(of_structures, given) if known]
    if residuals:
        own = own + torch.as_tensor(energies_per_element(indices, residuals, len(own))).to(own)
    energies.copy_(own.reshape(energies.shape))


@contextlib.contextmanager
def _averaged_weights(optimizer: torch.optim.Optimizer, ema: Any) -> Iterator[None]:
    """Put the averages of the weights into the model, as upstream does to validate it."""
    schedule_free: Any = optimizer if "ScheduleFree" in type(optimizer).__name__ else None
    if schedule_free is not None:
        schedule_free.eval()
    with contextlib.nullcontext() if ema is None else ema.average_parameters():
        yield
    if schedule_free is not None:
        schedule_free.train()
