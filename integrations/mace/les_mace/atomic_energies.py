"""Atomic energies that are fitted again when upstream's stage two begins."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from mace.tools.torch_geometric import DataLoader

from les.training.composition import energies_per_element
from les_mace.replaced import replaced

if TYPE_CHECKING:
    import argparse

    from mace.modules.models import ScaleShiftMACE

# Upstream's package has a function of the name of this module.
_train = importlib.import_module("mace.tools.train")


@contextlib.contextmanager
def refitted_energies(options: argparse.Namespace) -> Iterator[None]:
    """Let upstream fit atomic energies to the model again, before the first epoch of stage two.

    Only those that are averages of the data: energies of isolated atoms mean something else.
    Nothing is fitted to models of several heads, or without the energy in the loss.
    """
    averages = str(options.E0s).lower() == "average"
    if not options.swa or not averages or options.swa_energy_weight == 0:
        yield
        return
    train_one_epoch = _train.train_one_epoch
    done: list[bool] = []

    @functools.wraps(train_one_epoch)
    def train(*args: Any, **kwargs: Any) -> Any:
        epoch, start = kwargs["epoch"], options.start_swa  # which upstream has set by now
        if not done:
            done.append(epoch > start)  # by the run that is continued
        if not done[0] and epoch >= start:
            done[0] = True
            ema = kwargs["ema"]
            with contextlib.nullcontext() if ema is None else ema.average_parameters():
                fit_atomic_energies(kwargs["model"], kwargs["data_loader"])
        return train_one_epoch(*args, **kwargs)

    with replaced(_train, "train_one_epoch", train):
        yield


def fit_atomic_energies(model: ScaleShiftMACE, loader: DataLoader) -> None:
    """Shift the atomic energies of a model of one head to the labels that ``loader`` loads.

    Structures whose energy has no weight are left out.
    """
    energies = model.atomic_energies_fn.atomic_energies
    if energies.numel() != len(model.atomic_numbers):
        return
    device = energies.device
    elements: list[list[int]] = []
    residuals: list[float] = []
    for batch in DataLoader(loader.dataset, loader.batch_size):
        batch = batch.to(device)
        predicted = model(batch.to_dict(), compute_force=False)["energy"].detach()
        n_atoms = batch.ptr[1:] - batch.ptr[:-1]
        given = batch.weight * batch.energy_weight > 0.0
        of_atoms = (batch.node_attrs.argmax(dim=1) + 1).split(n_atoms.tolist())
        elements += [each.tolist() for each, known in zip(of_atoms, given.tolist()) if known]
        residuals += ((batch.energy - predicted) / n_atoms)[given].tolist()
    if residuals:
        shift = energies_per_element(elements, residuals, energies.numel())
        energies += torch.as_tensor(shift).reshape(energies.shape).to(energies)
