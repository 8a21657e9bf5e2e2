"""The cell that a structure is summed in, where its atoms are divided among ranks.

The cell of a slab follows its outermost atoms, which may be those of any ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.reciprocal.lattice import open_directions
from les.sums.reciprocal.slab import slab_cells
from les.sums.reduction import Reduction, gathered


class Frame(NamedTuple):
    """The cell that is summed in, and how it follows from the structure."""

    #: ``[1, 3, 3]`` [A], with derivatives with respect to ``given``.
    cell: Tensor
    #: Where the Green's function of a slab ends ``[1]`` [A]; ``None`` for three periodic axes.
    half_height: Tensor | None
    #: What is taken off all positions ``[3]`` [A].
    moved: Tensor
    #: The structure's own cell ``[3, 3]`` [A], and of a slab the outermost atoms of all ranks
    #: ``[n, 3]`` [A].
    given: tuple[Tensor, ...]
    #: Of a slab, which of ``given[1]`` are this rank's, and which of its atoms they are.
    places: tuple[list[int], list[int]]

    @staticmethod
    def of(
        cell: Tensor, pbc: Tensor, positions: Tensor, sigma: float, reduction: Reduction
    ) -> Frame:
        """The frame of a structure; all ranks must call it, because slabs have theirs in common."""
        box = cell.requires_grad_()
        if bool(pbc.all()):
            return Frame(box.unsqueeze(0), None, torch.zeros_like(box[0]), (box,), ([], []))
        normal = open_directions(cell.detach()[None], pbc[None])[0][int(pbc.long().argmin())]
        # The top and the bottom of each rank's own atoms, and whether it has any.
        ends = positions.new_zeros(2, 4)
        atoms: list[int] = []
        if len(positions) > 0:
            heights = positions.detach() @ normal
            atoms = [int(heights.argmax()), int(heights.argmin())]
            ends = torch.cat([positions.detach()[atoms], torch.ones_like(ends[:, :1])], dim=1)
        ends = gathered(ends, reduction).flatten(0, 1)
        present = ends[:, 3] > 0
        outermost = ends[present, :3].requires_grad_()
        if len(outermost) == 0:
            raise ValueError("a slab must have atoms, got none on any rank")
        one = torch.zeros(len(outermost), dtype=torch.long, device=cell.device)
        cells, half_height, placed = slab_cells(box[None], pbc[None], outermost, one, sigma)
        first = int(present[: 2 * reduction.rank].sum())
        places = list(range(first, first + len(atoms)))
        moved = (outermost - placed)[0].detach()
        return Frame(cells, half_height, moved, (box, outermost), (places, atoms))

    def pulled_back(self, gradient: Tensor, n_own: int) -> tuple[Tensor, Tensor]:
        """Derivatives with respect to the structure's cell, and to the rank's own positions.

        Args:
            gradient: derivatives with respect to ``cell`` and, of a slab, ``half_height``, in one
                row.
            n_own: number of the rank's atoms.
        """
        of_own = gradient.new_zeros(n_own, 3)
        if self.half_height is None:
            return gradient.view(3, 3), of_own
        made, pulls = (self.cell, self.half_height), (gradient[:9].view(1, 3, 3), gradient[9:])
        of_cell, of_ends = torch.autograd.grad(made, self.given, pulls)
        places, atoms = self.places
        return of_cell, of_own.index_add(
            0, torch.tensor(atoms, dtype=torch.long, device=of_own.device), of_ends[places]
        )
