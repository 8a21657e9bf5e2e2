"""The short-range part of a CACE model, for atoms that are divided among ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from les.config import LESConfig
from les.engines.cluster import Cluster
from les_cace.model import CACE
from les_cace.neighbours import arrange


class CACECluster:
    """``les.engines.cluster.ShortRange`` of a model.

    Args:
        model: a model with charges.
    """

    def __init__(self, model: CACE) -> None:
        assert model.les_config is not None
        self.model = model
        self.config: LESConfig = model.les_config
        self.cutoff = model.cutoff
        self.n_layers = max(1 + len(x.layers) for x in model.representations())
        weight = model.representation.sender_embedding
        self.dtype, self.device = weight.dtype, weight.device

    def __call__(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        # The shifts are in the place of images: lattice vectors are the axes of coordinates.
        neighbours = arrange(cluster.sender, cluster.receiver, cluster.shifts, len(cluster.numbers))
        axes = torch.eye(3, dtype=self.dtype, device=self.device).unsqueeze(0)
        batch = torch.zeros_like(cluster.numbers)
        vectors = neighbours.vectors(cluster.positions, axes, batch, self.cutoff)
        element = self.model.representation.elements(cluster.numbers)
        inputs = (vectors, neighbours.sender, element)
        *others, own = self.model.representations()  # the last is that of the charges
        of_charges = own(*inputs).flatten(1)
        features = others[0](*inputs).flatten(1) if others else of_charges
        assert self.model.charge_readout is not None
        charges = self.model.charge_readout(of_charges, element)
        return self.model.short_range_energies(features, element), charges
