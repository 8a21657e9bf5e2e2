"""The atoms that a rank needs for the energies of its own, as a graph that a model can take.

A program that divides space among ranks gives each rank its own atoms and *ghosts*: atoms of other
ranks nearby, and images of any atom across periodic boundaries. A model with several layers of
messages reaches as many times its cutoff, so that most of what a rank sees is ghosts. Two things
keep that small: what no message reaches an own atom from is left out, and images of an atom are one
node of the graph, because they have the same features. On one rank the graph is that of the
periodic cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.config import LESConfig


class Cluster(NamedTuple):
    """Atoms without a cell, and which of them are neighbours."""

    #: Atomic numbers ``[n_nodes]``; the rank's own atoms come first.
    numbers: Tensor
    #: ``[n_nodes, 3]`` [A].
    positions: Tensor
    #: Neighbours, and the atoms that receive from them ``[n_edges]``.
    sender: Tensor
    receiver: Tensor
    #: What is added to ``positions[receiver] - positions[sender]`` ``[n_edges, 3]`` [A].
    shifts: Tensor
    #: Number of the rank's own atoms.
    n_own: int
    #: That of the whole structure [e].
    total_charge: float


class ShortRange(Protocol):
    """The part of a model with LES that looks at neighbours. It knows of no other ranks."""

    @property
    def config(self) -> LESConfig:
        """How the model does its long-range part."""

    @property
    def cutoff(self) -> float:
        """Radius within which atoms are neighbours [A]."""

    @property
    def n_layers(self) -> int:
        """How often features go from neighbours to atoms."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision that it computes in."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def __call__(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        """Short-range energies of atoms ``[n_nodes]`` [eV], and charges as they are read.

        Charges are ``[n_nodes]`` or ``[n_nodes, n_channels]`` [e]. Both are differentiable with
        respect to ``cluster.positions`` and ``cluster.shifts``. Those of atoms other than the
        ``n_own`` first ones mean nothing.
        """


class Graph(NamedTuple):
    """A cluster by the places of its atoms among those that a rank sees."""

    #: Which of the atoms seen are nodes ``[n_nodes]``; own atoms come first, in their order.
    nodes: NDArray[np.int64]
    #: Places in ``nodes`` ``[n_edges]``.
    sender: NDArray[np.int64]
    receiver: NDArray[np.int64]
    #: From the image that is the neighbour to the one that is the node ``[n_edges, 3]`` [A].
    shifts: NDArray[np.float64]

    def cluster(
        self,
        numbers: NDArray[np.int64],
        positions: NDArray[np.float64],
        n_own: int,
        total_charge: float,
    ) -> Cluster:
        """The cluster, with atomic numbers and positions of all atoms seen."""
        return Cluster(
            torch.from_numpy(numbers[self.nodes]),
            torch.from_numpy(positions[self.nodes]),
            torch.from_numpy(self.sender),
            torch.from_numpy(self.receiver),
            torch.from_numpy(self.shifts),
            n_own,
            total_charge,
        )


def find_graph(
    positions: NDArray[Any], tags: NDArray[Any], n_own: int, cutoff: float, n_layers: int
) -> Graph:
    """What the energies of the first ``n_own`` atoms depend on.

    Args:
        positions: of all atoms that are seen ``[n_seen, 3]`` [A]: all within ``n_layers`` times the
            cutoff of an own atom.
        tags: what images of an atom have in common ``[n_seen]``.
        n_own: number of own atoms, which come first, each once.
        cutoff: radius within which atoms are neighbours [A].
        n_layers: how often features go from neighbours to atoms.

    Raises:
        ValueError: for atoms at the same place; the message has their tags.
    """
    from scipy.spatial import cKDTree  # comes with ASE

    pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
    same = (positions[pairs[:, 0]] == positions[pairs[:, 1]]).all(axis=1)
    if same.any():
        first, second = sorted(tags[pairs[same][0]].tolist())
        raise ValueError(f"the atoms {first} and {second} are at the same place")
    sender = np.concatenate([pairs[:, 0], pairs[:, 1]])
    receiver = np.concatenate([pairs[:, 1], pairs[:, 0]])
    # How many messages away the next own atom is.
    depth = np.full(len(positions), n_layers + 1)
    depth[:n_own] = 0
    for layer in range(n_layers):
        reached = sender[depth[receiver] == layer]
        depth[reached] = np.minimum(depth[reached], layer + 1)
    # Of the images of an atom, the one that is needed soonest is the node: its surroundings are
    # seen as far as they matter. The order is stable, so that own atoms stay first.
    order = np.lexsort((np.arange(len(positions)), depth))
    _, first, image_of = np.unique(tags[order], return_index=True, return_inverse=True)
    chosen = np.sort(first)
    nodes = order[chosen]
    nodes = nodes[depth[nodes] <= n_layers]
    node_of_tag = np.full(len(first), -1)
    node_of_tag[image_of[chosen[: len(nodes)]]] = np.arange(len(nodes))
    node = np.empty(len(positions), dtype=np.int64)
    node[order] = node_of_tag[image_of]
    is_node = np.zeros(len(positions), dtype=bool)
    is_node[nodes] = True
    # Edges to atoms beyond the last but one layer carry nothing that reaches an own atom.
    kept = is_node[receiver] & (depth[receiver] < n_layers)
    sender, receiver = sender[kept], receiver[kept]
    shifts = positions[nodes[node[sender]]] - positions[sender]
    return Graph(nodes, node[sender], node[receiver], shifts)
