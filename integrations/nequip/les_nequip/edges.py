"""Where NequIP and Allegro carry features from atom to atom, for exact Born effective charges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from les import Carried, Edges

#: Modules whose features stay on their atom, or on an edge and its centre, by their package. Names,
#: because packages of nequip-package hold copies of the classes, and allegro may be missing.
KNOWN: Final = {
    "nequip": {
        "AddRadialCutoffToData",
        "AppendVectorFieldEmbed",
        "ApplyFactor",
        "AtomwiseLinear",
        "AtomwiseOperation",
        "AtomwiseReduce",
        "BesselEdgeLengthEncoding",
        "CompileGraphModel",
        "ConvNetLayer",
        "EdgeLengthNormalizer",
        "ForceStressOutput",
        "GraphModel",
        "LennardJones",
        "NodeTypeEmbed",
        "NoOpGhostExchangeModule",
        "PartialForceOutput",
        "PerTypeScaleShift",
        "ScalarMLP",
        "SequentialGraphNetwork",
        "SimpleLennardJones",
        "SphericalHarmonicEdgeAttrs",
        "ZBL",
    },
    "allegro": {
        "Allegro_Module",  # takes sums over the edges of a centre back to these edges
        "EdgewiseReduce",
        "ProductTypeEmbedding",
        "TwoBodySphericalHarmonicTensorEmbed",
        "TwoBodySplineScalarEmbed",
    },
    "les_nequip": {"LES", "PairPotentials"},
}

#: Takes features from neighbours to the edges of their centre, in its ``tp_scatter``.
INTERACTION: Final = ("nequip", "InteractionBlock")
#: The only ``tp_scatter`` that has these features as a tensor, the first argument of its ``tp``.
TENSOR_PRODUCT: Final = ("nequip", "TensorProductScatter")


class EdgeRecord:
    """Records which features a model takes from other atoms, during each of its evaluations.

    Nothing is kept after the evaluation. Copies of a model, and what is pickled, have their own.

    Args:
        model: all modules up to ``les``, and others.
        les: the module in ``model`` that wants to know.
    """

    def __init__(self, model: torch.nn.Module, les: torch.nn.Module) -> None:
        self.model, self.les = model, les
        self.gathered: dict[torch.nn.Module, Tensor] = {}
        for interaction in self._interactions():
            if module_name(interaction.tp_scatter) == TENSOR_PRODUCT:
                interaction.tp_scatter.tp.register_forward_pre_hook(self._keep)
        les.register_forward_hook(self._forget)

    def edges(self, data: AtomicDataDict.Type) -> Edges:
        """The edges of the evaluation that has come to ``les``, whose input is ``data``.

        Raises:
            ValueError: for a module of which it is not known where it takes features from.
        """
        obstacle = self.obstacle()
        if obstacle is not None:
            raise ValueError(obstacle)
        vectors = data[AtomicDataDict.EDGE_VECTORS_KEY]
        centres, neighbours = data[AtomicDataDict.EDGE_INDEX_KEY].unbind(0)
        products = [interaction.tp_scatter.tp for interaction in self._interactions()]
        carried = [Carried(self.gathered[product], -vectors) for product in products]
        return Edges(vectors, centres, neighbours, carried, centre="start")

    def obstacle(self) -> str | None:
        """Why there are no exact Born effective charges of the model, ``None`` if there are."""
        problem = self.unknown_part()
        for interaction in self._interactions():
            product = interaction.tp_scatter
            if problem is not None:
                break
            if module_name(product) != TENSOR_PRODUCT:
                problem = _unknown(product)
            elif self._keep not in product.tp._forward_pre_hooks.values():
                problem = f"{type(interaction).__name__}: it was changed after it was built"
        if problem is None:
            return None
        return (
            f"exact Born effective charges are not available for a model with {problem}; the "
            "published approximation is, with bec='phase'"
        )

    def unknown_part(self) -> str | None:
        """A module of which it is not known where it takes features from, and that this is so."""
        for module in self._before():
            if not _is_known(module):
                return _unknown(module)
        return None

    @property
    def n_interactions(self) -> int:
        """How often the model carries features from neighbours to atoms."""
        return len(self._interactions())

    def _keep(self, product: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self.gathered[product] = arguments[0]

    def _forget(self, *call: Any) -> None:
        self.gathered = {}

    def _before(self) -> Iterator[Any]:
        """Modules that change the data before they come to ``les``."""
        for module in self.model.modules():
            if module is self.les:
                return
            if isinstance(getattr(module, "irreps_out", None), dict):
                yield module

    def _interactions(self) -> list[Any]:
        return [module for module in self._before() if module_name(module) == INTERACTION]


def record_edges(model: torch.nn.Module) -> None:
    """Let each LES in ``model`` know its edges; one that does already is left as it is."""
    modules: Iterator[Any] = model.modules()
    for module in modules:
        if getattr(module, "is_les", False) and getattr(module, "edge_record", ...) is None:
            module.edge_record = EdgeRecord(model, module)


def module_name(module: torch.nn.Module) -> tuple[str, str]:
    """Package and name of the class, also of a copy that is named ``<torch_package_0>.nequip``."""
    path = type(module).__module__.rpartition(">.")[2]
    return path.partition(".")[0], type(module).__name__


def _unknown(module: torch.nn.Module) -> str:
    return f"{type(module).__name__}: it is not known where it takes features from other atoms"


def _is_known(module: torch.nn.Module) -> bool:
    package, name = module_name(module)
    return (package, name) == INTERACTION or name in KNOWN.get(package, ())
