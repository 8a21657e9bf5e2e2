"""How large charges and their energy are: what to watch while a model learns them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: Fields of ``les.backends.EpochRecord`` about charges, and their names in the logs of upstreams.
CHARGE_FIELDS = (
    "valid_charge_rms",
    "valid_total_charge_mean",
    "valid_total_charge_max",
    "valid_les_energy_rms",
)

#: Root mean square charge [e] below which the energy of charges hardly counts.
SMALL_CHARGE = 0.02


class ChargeStatistics:
    """Sizes of the charges and of the long-range energy in many batches.

    All atoms, and all structures, count the same; several channels count as so many charges.
    """

    def __init__(self) -> None:
        self.n_charges, self.squares = 0, 0.0
        self.n_totals, self.sum_of_totals, self.largest_total = 0, 0.0, 0.0
        self.n_structures, self.energy_squares = 0, 0.0

    def add(self, charges: Tensor, batch: Tensor, les_energy: Tensor) -> None:
        """Count the structures of one batch.

        Args:
            charges: charges ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e].
            batch: number of the structure that an atom belongs to, ``[n_atoms]``.
            les_energy: long-range energy of each structure ``[n_structures]`` [eV].
        """
        q, batch = charges.detach().cpu().double(), batch.cpu()  # not all devices have float64
        energy = les_energy.detach().cpu().double().reshape(-1)
        totals = q.new_zeros((len(energy), *q.shape[1:])).index_add(0, batch, q)
        n_atoms = torch.bincount(batch, minlength=len(energy))
        self.n_charges += q.numel()
        self.squares += float(q.square().sum())
        self.n_totals += totals.numel()
        self.sum_of_totals += float(totals.sum())
        self.largest_total = max(self.largest_total, float(totals.abs().max()))
        self.n_structures += len(energy)
        self.energy_squares += float((energy / n_atoms).square().sum())

    def add_results(self, results: Mapping[str, Any]) -> None:
        """Count one structure by a calculator's results, if the model has charges."""
        if "charges" in results and "les_energy" in results:
            charges = torch.as_tensor(results["charges"])
            batch = torch.zeros(len(charges), dtype=torch.long)
            self.add(charges, batch, torch.as_tensor(results["les_energy"]))

    def values(self) -> dict[str, float]:
        """The sizes by the names of :data:`CHARGE_FIELDS`; empty without any charges."""
        if not self.n_structures:
            return {}
        sizes = (
            math.sqrt(self.squares / self.n_charges),
            self.sum_of_totals / self.n_totals,
            self.largest_total,
            math.sqrt(self.energy_squares / self.n_structures),
        )
        return dict(zip(CHARGE_FIELDS, sizes, strict=True))


def charges_in_words(values: Mapping[str, Any]) -> str:
    """What :meth:`ChargeStatistics.values` returned, as the logs of all trainings show it."""
    return (
        f"charges: RMS {values['valid_charge_rms']:.3g} e, total of a structure: mean "
        f"{values['valid_total_charge_mean']:.2g} e, largest {values['valid_total_charge_max']:.2g}"
        f" e; long-range energy: RMS {1000.0 * values['valid_les_energy_rms']:.3g} meV/atom"
    )
