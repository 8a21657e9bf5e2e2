"""The short-range part of a MACE model, for atoms that are divided among ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from les.config import LESConfig
from les.engines.cluster import Cluster
from les_mace.model import MACELES


class MACECluster:
    """``les.engines.cluster.ShortRange`` of a model.

    Args:
        model: the model.
        head: number of the head that is meant.

    Raises:
        ValueError: for a model whose features depend on more than the atoms.
    """

    def __init__(self, model: MACELES, head: int = 0) -> None:
        embedded = getattr(model, "embedding_specs", None)
        if embedded:
            raise ValueError(
                f"atoms of this model cannot be divided among ranks: its features depend on "
                f"{', '.join(embedded)} of the structure, which is not passed on"
            )
        self.model, self.head = model, head
        self.config: LESConfig = model.les.config()
        self.cutoff, self.n_layers = float(model.r_max), len(model.interactions)
        weight = next(model.parameters())
        self.dtype, self.device = weight.dtype, weight.device
        largest = int(model.atomic_numbers.max())
        self.places = torch.full([largest + 1], -1, device=self.device)
        self.places[model.atomic_numbers] = torch.arange(
            len(model.atomic_numbers), device=self.device
        )

    def __call__(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        n_nodes = len(cluster.numbers)
        element = torch.nn.functional.one_hot(
            self.places[cluster.numbers], len(self.model.atomic_numbers)
        )
        batch = torch.zeros_like(cluster.numbers)
        data = {
            "positions": cluster.positions,
            "node_attrs": element.to(self.dtype),
            "edge_index": torch.stack([cluster.sender, cluster.receiver]),
            "shifts": cluster.shifts,
            "unit_shifts": torch.zeros_like(cluster.shifts),
            "cell": torch.zeros(3, 3, dtype=self.dtype, device=self.device),
            "batch": batch,
            "ptr": torch.tensor([0, n_nodes], device=self.device),
            "head": torch.tensor([self.head], device=self.device),
        }
        out = self.model.short_range(data, training=False, compute_force=False)
        energies = out["node_energy"]
        assert energies is not None
        return energies, self.model.raw_charges(out["node_feats"], data)
