"""Where NequIP and Allegro are told the charge state of a structure: as features are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from les.charge_states import ChargeStateEmbedding
from les_nequip.edges import module_name
from les_nequip.keys import SPIN_KEY, TOTAL_CHARGE_KEY

#: Makes the features that atoms start with, and takes those that edges start with. By name, because
#: packages of nequip-package hold copies of the classes, and allegro may be missing.
OF_ATOMS: Final = ("nequip", "NodeTypeEmbed")
OF_EDGES: Final = ("allegro", "TwoBodySphericalHarmonicTensorEmbed")

#: Inputs of a model that embeds them.
INPUTS: Final = {"total_charge": TOTAL_CHARGE_KEY, "spin": SPIN_KEY}


class Conditioned:
    """Adds an embedding of the charge state to the features of a model, as they are made.

    NequIP's atoms start with an embedding of their type, which this one is added to. Allegro has
    features of edges, products of a function of their length and of the types of both atoms: there
    it is added to the types, times the same function, so that features still vanish at the cutoff.

    Args:
        model: the modules that make features, and others.
        embedding: the embedding.
        is_tracing: a function that says whether a graph is being captured.
    """

    def __init__(self, model: torch.nn.Module, embedding: ChargeStateEmbedding, is_tracing: Any):
        self.embedding, self.is_tracing = embedding, is_tracing
        modules = {module_name(module): module for module in model.modules()}
        if OF_EDGES in modules:
            modules[OF_EDGES].register_forward_pre_hook(self._scale_edges)
        elif OF_ATOMS in modules:
            modules[OF_ATOMS].register_forward_hook(self._add_to_atoms)
        else:
            raise ValueError(
                "a total charge or spin can be embedded in features of NequIP and Allegro; this "
                f"model has neither a {OF_ATOMS[1]} nor a {OF_EDGES[1]}"
            )

    def _add_to_atoms(self, module: Any, arguments: Any, data: AtomicDataDict.Type) -> None:
        features = data[AtomicDataDict.NODE_FEATURES_KEY]
        data[AtomicDataDict.NODE_FEATURES_KEY] = features + self._states(data).to(features.dtype)

    def _scale_edges(self, module: Any, arguments: tuple[AtomicDataDict.Type]) -> None:
        data = arguments[0]
        features = data[AtomicDataDict.EDGE_EMBEDDING_KEY]
        states = self._states(data)[data[AtomicDataDict.EDGE_INDEX_KEY][0]]
        data[AtomicDataDict.EDGE_EMBEDDING_KEY] = features * (1.0 + states.to(features.dtype))

    def _states(self, data: AtomicDataDict.Type) -> Tensor:
        """The embedding for each atom ``[n_atoms, n_features]``."""
        batch = data.get(AtomicDataDict.BATCH_KEY)
        if batch is None:
            batch = torch.zeros_like(data[AtomicDataDict.ATOM_TYPE_KEY].view(-1))
        inputs = [None if key not in data else data[key].view(-1) for key in INPUTS.values()]
        states: Tensor = self.embedding(batch, *inputs, check_values=not self.is_tracing())
        return states


def n_features(irreps_in: dict[str, Any]) -> int:
    """Number of features that the embedding is added to, of a model with ``irreps_in``."""
    edges = irreps_in.get(AtomicDataDict.EDGE_FEATURES_KEY) is not None
    key = AtomicDataDict.EDGE_EMBEDDING_KEY if edges else AtomicDataDict.NODE_ATTRS_KEY
    return int(irreps_in[key].dim)


def condition(model: torch.nn.Module, is_tracing: Any) -> None:
    """Let each LES in ``model`` that embeds charge states do so; once is enough.

    Raises:
        ValueError: as :class:`Conditioned`.
    """
    modules: Iterator[Any] = model.modules()
    for module in modules:
        embedding = getattr(module, "charge_states", None)
        if embedding is not None and getattr(module, "conditioned", ...) is None:
            module.conditioned = Conditioned(model, embedding, is_tracing)
