"""The short-range part of a NequIP or Allegro model, for atoms that are divided among ranks."""

from __future__ import annotations

from typing import Any

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from les.config import LESConfig
from les.engines.cluster import Cluster
from les_nequip.edges import module_name
from les_nequip.keys import READ_KEY
from les_nequip.loading import types_of_numbers

#: Wrappers around the energy model, which differentiate its results.
DERIVATIVES = {"ForceStressOutput", "PartialForceOutput"}


class NequIPCluster:
    """``les.engines.cluster.ShortRange`` of a model.

    Allegro's features are sums over the neighbours of an atom, so that one cutoff is its reach;
    NequIP's go from atom to atom in each of its layers.

    Args:
        model: upstream's ``GraphModel``.
        les: the module in it that reads charges.
        config: that of ``les``.
        types: type of each atomic number ``[n_numbers]``, -1 for those without one.

    Raises:
        ValueError: for a model of which it is not known where it takes features from other atoms,
            or which holds a copy of LES from an earlier release.
    """

    dtype = torch.float64  # of positions and edges; what the model computes in is its own affair

    def __init__(self, model: Any, les: Any, config: LESConfig, types: Tensor) -> None:
        if not hasattr(les, "can_read_alone"):
            raise ValueError(
                "atoms of this model cannot be divided among ranks: its file has a copy of LES "
                "from a release that could not; take the checkpoint that it was packaged from"
            )
        record = les.edge_record
        obstacle = "it was not built by nequip" if record is None else record.unknown_part()
        if obstacle is not None:
            raise ValueError(f"atoms of this model cannot be divided among ranks: {obstacle}")
        energy_model = model.model
        if module_name(energy_model)[1] in DERIVATIVES:
            energy_model = energy_model.func
        self.energy_model, self.config = energy_model, config
        self.cutoff = float(model.metadata["r_max"])
        self.n_layers = max(1, record.n_interactions)
        self.device = next(model.parameters()).device
        self.types = types.to(self.device)

    @classmethod
    def of(cls, calculator: Any) -> NequIPCluster:
        """That of the model of a ``les_nequip.LESCalculator``.

        Raises:
            ValueError: for a compiled model, one in other units than eV or with several modules of
                LES, and one that does not say which elements its types are.
        """
        modules, config = calculator.les_modules, calculator.les_config
        if not modules:
            raise ValueError(
                "atoms of a compiled model cannot be divided among ranks: take the model as it was "
                "trained"
            )
        if len(modules) > 1 or calculator.energy_units_to_eV != 1.0:
            raise ValueError(
                "atoms of a model with several modules of LES, or with other units than eV, cannot "
                "be divided among ranks"
            )
        types = types_of_numbers(calculator.transforms)
        if types is None:
            raise ValueError("the model does not say which chemical elements its atom types are")
        assert config is not None
        return cls(calculator.model, modules[0], config, types)

    def __call__(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        # The shifts are in the place of images: lattice vectors are the axes of coordinates.
        axes = torch.eye(3, dtype=self.dtype, device=self.device).unsqueeze(0)
        data: dict[str, Tensor] = {
            AtomicDataDict.POSITIONS_KEY: cluster.positions,
            AtomicDataDict.EDGE_INDEX_KEY: torch.stack([cluster.receiver, cluster.sender]),
            AtomicDataDict.EDGE_CELL_SHIFT_KEY: -cluster.shifts,
            AtomicDataDict.CELL_KEY: axes,
            AtomicDataDict.ATOM_TYPE_KEY: self.types[cluster.numbers],
            READ_KEY: axes,
        }
        out = self.energy_model(data)
        energies, charges = (
            out[key].view(-1)
            for key in (AtomicDataDict.PER_ATOM_ENERGY_KEY, AtomicDataDict.CHARGE_KEY)
        )
        return energies, charges
