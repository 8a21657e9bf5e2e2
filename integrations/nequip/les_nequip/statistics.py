"""Statistics of training data from which our configurations start a model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from nequip.data import AtomicDataDict, CommonDataStatisticsManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

logger = logging.getLogger("les")


class CompositionStatistics:
    """Upstream's common statistics, and the energies per type that explain the data best.

    To be named as ``data.stats_manager``. In the model section,
    ``${training_data_stats:per_type_energy_mean}`` is then a least-squares fit of the
    energies by the composition alone [eV]. Upstream's ``per_atom_energy_mean``, one number
    for all types, leaves structures of different composition electronvolts apart.

    Args:
        type_names: types of the model, in its order.
        dataloader_kwargs: see ``nequip.data.CommonDataStatisticsManager``.
    """

    def __init__(
        self, type_names: Sequence[str], dataloader_kwargs: dict[str, Any] | None = None
    ) -> None:
        self.type_names = list(type_names)
        self.common = CommonDataStatisticsManager(dataloader_kwargs, self.type_names)
        # Labels that a structure does not have.
        self.common.ignore_nans = [True] * len(self.common.ignore_nans)
        self.dataloader_kwargs = self.common.dataloader_kwargs

    def get_statistics(self, data_source: Iterable[dict[str, Tensor]]) -> dict[str, Any]:
        """All statistics of the batches in ``data_source``, by name."""
        counts, energies = [], []
        for data in data_source:
            self.common(data)
            counts.append(_composition(data, len(self.type_names)))
            energies.append(data[AtomicDataDict.TOTAL_ENERGY_KEY].reshape(-1))
        statistics = self.common.compute()
        # Of the solutions for too few compositions, the smallest. scipy is not needed, and
        # torch's driver for rank-deficient systems exists on the CPU, where the data are.
        energy = torch.cat(energies)
        labelled = torch.isfinite(energy)
        if not labelled.any():
            raise ValueError("the training data hold no structure with a finite energy")
        fit = torch.linalg.lstsq(
            torch.cat(counts)[labelled], energy[labelled].unsqueeze(-1), driver="gelsd"
        )
        means = dict(zip(self.type_names, fit.solution.reshape(-1).tolist()))
        logger.info("energies per type [eV]: %s", means)
        return {**statistics, "per_type_energy_mean": means}


def _composition(data: dict[str, Tensor], n_types: int) -> Tensor:
    """Number of atoms of each type ``[n_structures, n_types]``, in the energies' dtype."""
    types = data[AtomicDataDict.ATOM_TYPE_KEY].reshape(-1)
    batch = data[AtomicDataDict.BATCH_KEY]
    n_structures = data[AtomicDataDict.NUM_NODES_KEY].numel()
    energy = data[AtomicDataDict.TOTAL_ENERGY_KEY]
    counts = energy.new_zeros(n_structures, n_types)
    return counts.index_put_((batch, types), energy.new_ones(()), accumulate=True)
