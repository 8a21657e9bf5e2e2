"""Charges in upstream's metrics, results and log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mace.tools.torch_geometric import Batch
from torch import Tensor, nn

from les.training.charges import ChargeStatistics, charges_in_words
from les_mace.replaced import replaced, train_module


class ChargeMetrics(train_module.MACELoss):  # type: ignore[misc,name-defined]
    """Upstream's errors of an evaluation, with the sizes of the charges that a model has."""

    charges: list[Tensor]
    atoms_per_structure: list[Tensor]
    les_energies: list[Tensor]

    def __init__(self, loss_fn: nn.Module) -> None:
        super().__init__(loss_fn)
        for name in ("charges", "atoms_per_structure", "les_energies"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, batch: Batch, output: Mapping[str, Any]) -> None:
        super().update(batch, output)
        # Upstream counts labels without weight, which are zero, in the errors per atom.
        if output.get("energy") is not None:
            given = batch.weight * batch.energy_weight > 0.0
            self.delta_es_per_atom[-1] = self.delta_es_per_atom[-1][given]
        if output.get("les_energy") is not None:
            self.charges.append(output["charges"].detach())
            self.atoms_per_structure.append(batch.ptr[1:] - batch.ptr[:-1])
            self.les_energies.append(output["les_energy"].detach())

    def compute(self) -> tuple[float, dict[str, Any]]:
        loss, metrics = super().compute()
        statistics = ChargeStatistics()
        if len(self.charges):
            gathered = (self.charges, self.atoms_per_structure, self.les_energies)
            # Between processes upstream's base class has made one tensor of each list.
            charges, sizes, energies = (
                torch.cat(each) if isinstance(each, list) else each for each in gathered
            )
            structures = torch.arange(len(sizes), device=sizes.device)
            statistics.add(charges, torch.repeat_interleave(structures, sizes), energies)
        metrics.update(statistics.values())
        return loss, metrics


@contextlib.contextmanager
def logged_charges() -> Iterator[None]:
    """Let upstream write down the sizes of the charges after each epoch, too."""

    def log(loss: Any, metrics: Any, *args: Any, **kwargs: Any) -> None:
        log_of(loss, metrics, *args, **kwargs)
        if "valid_charge_rms" in metrics:
            logging.info("  %s", charges_in_words(metrics))

    log_of = train_module.valid_err_log
    with (
        replaced(train_module, "valid_err_log", log),
        replaced(train_module, "MACELoss", ChargeMetrics),
    ):
        yield
