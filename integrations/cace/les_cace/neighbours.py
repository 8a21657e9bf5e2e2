"""The neighbours of the atoms of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from les import Carried, Edges


class Neighbours(NamedTuple):
    """Neighbours of each atom, in rows of equal length.

    Sums over them are products of matrices.
    """

    #: Atom that is the neighbour ``[n_atoms, width]``; any atom where there is none.
    sender: Tensor
    #: From the atom's cell to the neighbour's image, in lattice vectors ``[n_atoms, width, 3]``.
    images: Tensor
    #: Whether there is one ``[n_atoms, width]``.
    present: Tensor

    def vectors(self, positions: Tensor, cell: Tensor, batch: Tensor, cutoff: float) -> Tensor:
        """From the neighbours to the atoms, row by row: ``[n_atoms * width, 3]`` [A].

        Where there is no neighbour, a vector longer than ``cutoff``.

        Args:
            positions: ``[n_atoms, 3]`` [A].
            cell: ``[n_structures, 3, 3]`` [A].
            batch: structure of each atom ``[n_atoms]``.
            cutoff: radius [A].
        """
        vectors = positions.unsqueeze(1) - positions[self.sender] + self.images @ cell[batch]
        return torch.where(self.present.unsqueeze(-1), vectors, 2.0 * cutoff).flatten(0, 1)

    def edges(self, vectors: Tensor, carried: Sequence[Carried]) -> Edges:
        """The graph of a model, for Born effective charges.

        Args:
            vectors: those that it was evaluated with, of :meth:`vectors`.
            carried: where features go from the neighbours to the atoms.
        """
        n_atoms, width = self.sender.shape
        atoms = torch.arange(n_atoms, device=self.sender.device)
        return Edges(vectors, self.sender.flatten(), atoms.repeat_interleave(width), carried)


def arrange(sender: Tensor, receiver: Tensor, images: Tensor, n_atoms: int) -> Neighbours:
    """Pairs of atoms in any order as rows of neighbours.

    Args:
        sender, receiver: ``[n_pairs]``.
        images: ``[n_pairs, 3]``.
        n_atoms: number of atoms.
    """
    order = torch.argsort(receiver, stable=True)
    receiver = receiver[order]
    counts = torch.bincount(receiver, minlength=n_atoms)
    width = int(counts.max()) if len(receiver) > 0 else 0
    column = (
        torch.arange(len(receiver), device=receiver.device)
        - (torch.cumsum(counts, 0) - counts)[receiver]
    )
    rows = Neighbours(
        sender.new_zeros(n_atoms, width),
        images.new_zeros(n_atoms, width, 3),
        torch.zeros(n_atoms, width, dtype=torch.bool, device=receiver.device),
    )
    for row, values in zip(rows, (sender[order], images[order], torch.ones_like(order).bool())):
        row[receiver, column] = values
    return rows
