"""Pairs of atoms of a batch within a cutoff, and sums over the neighbours of each atom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Edges(NamedTuple):
    """Directed pairs of atoms of a batch, ordered by receiver.

    Each atom has ``width`` places for its neighbours, so that sums over neighbours are matrix
    products: ``place`` tells that of each edge.
    """

    #: Atom that is the neighbour ``[n_edges]``.
    sender: Tensor
    #: Atom that has it ``[n_edges]``.
    receiver: Tensor
    #: From the receiver's cell to the sender's image, in lattice vectors ``[n_edges, 3]``.
    images: Tensor
    #: ``receiver * width`` plus a number from 0 to ``width - 1`` ``[n_edges]``.
    place: Tensor
    #: Largest number of neighbours.
    width: int


def arrange(sender: Tensor, receiver: Tensor, images: Tensor, n_atoms: int) -> Edges:
    """Edges in any order, in the order and with the places of :class:`Edges`.

    Args:
        sender, receiver: ``[n_edges]``.
        images: ``[n_edges, 3]``.
        n_atoms: number of atoms.
    """
    order = torch.argsort(receiver, stable=True)
    receiver = receiver[order]
    counts = torch.bincount(receiver, minlength=n_atoms)
    first = torch.cumsum(counts, 0) - counts
    width = int(counts.max()) if len(receiver) > 0 else 0
    place = torch.arange(len(receiver), device=receiver.device) - first[receiver]
    return Edges(sender[order], receiver, images[order], receiver * width + place, width)


def per_atom(values: Tensor, edges: Edges, n_atoms: int) -> Tensor:
    """``values`` of edges ``[n_edges, n]`` as ``[n_atoms, width, n]``, zero where there is none."""
    places = values.new_zeros(n_atoms * edges.width, values.shape[1])
    return places.index_copy(0, edges.place, values).view(n_atoms, edges.width, values.shape[1])
