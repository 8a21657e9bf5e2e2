"""Where CHGNet carries features from atom to atom, for exact Born effective charges.

Every feature belongs to an atom: that of a directed bond or an angle to the atom at its centre,
that of an undirected bond to the centre of the directed bond that stands for it
(``undirected2directed``). Upstream gathers all of them by ``torch.index_select`` and sums them by
``Tensor.index_add_``, with columns of the graph as the index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from chgnet.graph import CrystalGraph
from chgnet.model import CHGNet
from chgnet.model.encoders import AngleEncoder, BondEncoder
from chgnet.model.layers import AngleUpdate, AtomConv, BondConv
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from les import Carried, Edges


class Step(NamedTuple):
    """Features that are gathered by an index, or summed over one.

    Attributes:
        operation: ``"gather"`` or ``"sum"``.
        argument: name of the layer's argument that the index is a column of.
        column: which column.
    """

    operation: str
    argument: str
    column: int = 0


#: All steps between atoms, bonds and angles of the layers that are known, in upstream's order.
KNOWN_LAYERS: dict[type[nn.Module], tuple[Step, ...]] = {
    AtomConv: (
        Step("gather", "atom_graph", 0),
        Step("gather", "atom_graph", 1),
        Step("gather", "directed2undirected"),  # features of bonds
        Step("gather", "directed2undirected"),  # their weights
        Step("sum", "atom_graph", 0),
    ),
    BondConv: (
        Step("gather", "bond_graph", 0),
        Step("gather", "bond_graph", 1),  # features of bonds
        Step("gather", "bond_graph", 2),
        Step("gather", "bond_graph", 1),  # their weights
        Step("gather", "bond_graph", 2),
        Step("sum", "bond_graph", 1),
    ),
    AngleUpdate: (
        Step("gather", "bond_graph", 0),
        Step("gather", "bond_graph", 1),
        Step("gather", "bond_graph", 2),
    ),
}

#: What the encoder of bonds is called with.
ENCODED = {"center", "neighbor", "undirected2directed", "image", "lattice"}


@contextlib.contextmanager
def recorded_edges(model: CHGNet, graphs: Sequence[CrystalGraph]) -> Iterator[Callable[[], Edges]]:
    """Record where features go from atom to atom while ``model`` is evaluated once.

    Args:
        model: the model.
        graphs: what it is evaluated for.

    Yields:
        A function that returns the edges of the evaluation.

    Raises:
        ValueError: for a layer of which it is not known where it gathers features, or that does
            it otherwise than the release of upstream that is known here.
    """
    # The angles that the last layer gives are used nowhere.
    layers = [*model.atom_conv_layers, *model.bond_conv_layers, *model.angle_layers[:-1]]
    layers = [layer for layer in layers if layer is not None]
    encoders = [model.bond_basis_expansion, model.angle_basis_expansion]
    for module in (*layers, *encoders):
        if type(module) not in (*KNOWN_LAYERS, BondEncoder, AngleEncoder):
            raise _unknown(type(module).__name__)
    vectors: list[Tensor] = []
    steps: list[tuple[Step, Tensor]] = []
    recorder = _Recorder()

    def take_vectors(module: nn.Module, args: Any, ends: dict[str, Tensor]) -> Any:
        """Hand upstream one tensor of bond vectors, by the differences that it computes."""
        if ends.keys() != ENCODED:
            raise _unknown(f"the {type(module).__name__} of another release of chgnet")
        vector = ends["center"] - (ends["neighbor"] + ends["image"] @ ends["lattice"])
        vectors.append(vector)
        none = torch.zeros_like(vector)
        return args, {**ends, "center": vector, "neighbor": none, "image": none}

    def begin(module: nn.Module, args: Any, arguments: dict[str, Tensor]) -> None:
        recorder.__enter__()

    def end(module: nn.Module, args: Any, arguments: dict[str, Tensor], output: Any) -> None:
        recorder.__exit__(None, None, None)
        done = [(_step(*x[:2], arguments), x[2]) for x in recorder.taken()]
        if output is not None and tuple(step for step, _ in done) != KNOWN_LAYERS[type(module)]:
            raise _unknown(f"the {type(module).__name__} of another release of chgnet")
        steps.extend(done)

    handles = [encoders[0].register_forward_pre_hook(take_vectors, with_kwargs=True)]
    for layer in layers:
        handles.append(layer.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(layer.register_forward_hook(end, with_kwargs=True, always_call=True))
    try:
        yield lambda: _edges(graphs, vectors, steps)
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchFunctionMode):
    """A list of all operations with an index: their kind, the index and the features.

    The features are those of the single bonds, angles or pairs: what is gathered or summed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[str, Tensor, Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is torch.index_select:
            self._operations.append(("gather", args[2], result))
        elif function is Tensor.index_add_:
            self._operations.append(("sum", args[2], args[3]))
        return result

    def taken(self) -> list[tuple[str, Tensor, Tensor]]:
        """The list, which begins anew."""
        operations, self._operations = self._operations, []
        return operations


def _step(operation: str, index: Tensor, arguments: dict[str, Tensor]) -> Step:
    """Which column of which of a layer's arguments ``index`` is."""
    owner = index if index._base is None else index._base
    for name, argument in arguments.items():
        if owner is argument:
            return Step(operation, name, int(index.storage_offset()))
    return Step(operation, "unknown")


def _edges(
    graphs: Sequence[CrystalGraph], vectors: list[Tensor], steps: list[tuple[Step, Tensor]]
) -> Edges:
    """The graph of the whole batch, with the displacement of every step."""
    centre, neighbour, reverse, first, second = [], [], [], [], []
    n_atoms = n_bonds = 0
    for graph in graphs:
        n_directed = len(graph.directed2undirected)
        bonds = graph.atom_graph.reshape(-1, 2)
        centre.append(bonds[:, 0] + n_atoms)
        neighbour.append(bonds[:, 1] + n_atoms)
        along = torch.arange(n_directed, device=bonds.device)
        reverse.append(graph.undirected2directed[graph.directed2undirected] != along)
        if len(graph.bond_graph):
            first.append(graph.bond_graph[:, 2] + n_bonds)
            second.append(graph.bond_graph[:, 4] + n_bonds)
        n_atoms += len(graph.atomic_number)
        n_bonds += n_directed
    toward_centre = torch.cat(vectors)
    # An undirected bond is at the neighbour of the directed one that does not stand for it.
    from_bond = toward_centre * torch.cat(reverse).unsqueeze(1)
    displacements = {
        Step("gather", "atom_graph", 1): toward_centre,
        Step("gather", "directed2undirected"): from_bond,
    }
    if first:
        onto_angle = from_bond[torch.cat(first)]
        displacements[Step("gather", "bond_graph", 1)] = onto_angle
        displacements[Step("gather", "bond_graph", 2)] = from_bond[torch.cat(second)]
        displacements[Step("sum", "bond_graph", 1)] = -onto_angle
    carried = [
        Carried(features, displacements[step]) for step, features in steps if step in displacements
    ]
    return Edges(vectors, torch.cat(neighbour), torch.cat(centre), carried)


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"Born effective charges are not available for a CHGNet model with {name}: it is not known "
        "where it takes features from other atoms"
    )
