r"""The sum over k-points of one structure whose atoms are divided among ranks.

Each rank spreads its own atoms over plane waves; the components are added up over the ranks, which
is all that is global, and each rank gathers from the total what its atoms feel. No autograd crosses
ranks: with the total :math:`S`, the energy is

.. math::
    dE = \sum_{\mathbf n} |S_{\mathbf n}|^2\,dW_{\mathbf n}
       + \sum_{\mathbf n} 2 W_{\mathbf n}\,\mathrm{Re}(S^*_{\mathbf n}\,dS_{\mathbf n}),

where the first term depends on the cell alone, and the second is a sum over atoms.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import spread
from les.sums.bases.waves import Waves
from les.sums.checks import check_grid
from les.sums.method import Settings
from les.sums.plan import engine_for
from les.sums.reciprocal.grid import grid_weights, kept_grid
from les.sums.reciprocal.lattice import (
    Lattice,
    exactly,
    grid_extent,
    open_directions,
    reciprocal_vectors,
    wrapped,
)
from les.sums.reciprocal.slab import slab_cells
from les.sums.reduction import Reduction, gathered


class DividedSum(NamedTuple):
    """Energy of a structure, and its first derivatives as far as they belong to a rank."""

    #: Energy of the whole structure, a number [eV].
    energy: Tensor
    #: Derivatives with respect to the rank's own charges, in their shape [eV/e].
    potential: Tensor
    #: Derivatives with respect to the positions of its own atoms ``[n_own, 3]`` [eV/A].
    of_positions: Tensor
    #: Derivative with respect to the cell, of the whole structure ``[3, 3]`` [eV/A].
    of_cell: Tensor


def check_divisible(settings: Settings, pbc: Tensor) -> None:
    """Refuse what has no sum over atoms that are divided.

    Args:
        settings: of the sum.
        pbc: ``[3]``, boolean.

    Raises:
        ValueError: for a sum that must be done on a mesh, and fewer than two periodic axes.
    """
    if settings.method == "mesh":
        raise ValueError(
            "a sum over atoms that are divided among ranks is done directly, over k-points, and "
            "this model asks for `method` 'mesh': meshes are not added up over ranks"
        )
    n_axes = int(pbc.sum())
    if n_axes == 1:
        raise ValueError(
            f"`pbc` must have two or three axes true, got {pbc.tolist()}: wires are not supported"
        )
    if n_axes == 0:
        raise ValueError(
            "`pbc` must have two or three axes true, got none: the sum over the pairs of an open "
            "structure is not divided among ranks"
        )


def divided_sum(
    settings: Settings,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    reduction: Reduction,
) -> DividedSum:
    """Energy and first derivatives of one structure; all ranks must call it.

    It is what ``les.Ewald`` gives for all atoms together, by the direct sum also where that takes
    a mesh by itself. The formulas are evaluated in float64, on devices that have it.

    Args:
        settings: of the sum, ``les.Ewald.settings()``.
        charges: those of the rank's own atoms ``[n_own]`` or ``[n_own, n_channels]`` [e]; a rank
            may have no atoms.
        positions: ``[n_own, 3]`` [A], in any image of the cell; of slabs along the open axis as
            they are.
        cell: ``[3, 3]`` [A], the same on all ranks.
        pbc: ``[3]``, boolean, the same on all ranks.
        reduction: what adds up over the ranks.

    Raises:
        ValueError: as :func:`check_divisible`, and for a grid that does not fit in memory.
    """
    check_divisible(settings, pbc)
    engine = engine_for(positions.device, torch.float64)
    with torch.enable_grad():
        q = exactly(charges.detach())
        q = (q if q.dim() == 2 else q.unsqueeze(1)).requires_grad_()
        own = exactly(positions.detach()).requires_grad_()
        frame = _Frame.of(exactly(cell.detach()), pbc, own, settings.sigma, reduction)
        summed = frame.cell.detach().requires_grad_()
        half_height = frame.half_height
        if half_height is not None:
            half_height = half_height.detach().requires_grad_()
        extent = grid_extent(summed, settings.dl)
        check_grid(extent, 1, settings.dl)
        numbers = (extent[0], extent[1], extent[2])
        reciprocal, volume = reciprocal_vectors(summed)
        fractional = wrapped((own - frame.moved).unsqueeze(0) @ reciprocal.transpose(1, 2))
        basis = Waves(fractional.detach(), numbers)
        components = spread(q.t()[None, :, None], fractional.permute(2, 0, 1), basis)
        total = reduction.sum(components)
        grid = kept_grid(numbers, q.dtype, q.device)
        greens = functools.partial(engine.greens_function, greens=settings.greens)
        weights = grid_weights(Lattice(reciprocal, volume, half_height), grid, greens)
        bare = basis.weighted_power(total, weights).sum()
        felt = (components * basis.weighted(total, 2.0 * weights.detach())).sum()
        leaves = [q, own, summed] + ([] if half_height is None else [half_height])
        # What depends on the cell alone is the same on all ranks, and is added up over them.
        found = torch.autograd.grad(bare / reduction.size + felt, leaves, allow_unused=True)
    of_charges, of_positions, of_cell, *of_height = (
        torch.zeros_like(leaf) if value is None else value for leaf, value in zip(leaves, found)
    )
    squares = q.detach().square().sum()
    shared = reduction.sum(torch.cat([x.flatten() for x in (squares, of_cell, *of_height)]))
    squares = shared[0]
    whole_cell, of_outermost = frame.pulled_back(shared[1:], len(own))
    prefactor, self_coefficient = settings.coefficients(True)
    potential = prefactor * of_charges + 2.0 * self_coefficient * q.detach()
    return DividedSum(
        (prefactor * bare.detach() + self_coefficient * squares).to(charges.dtype),
        potential.view(charges.shape).to(charges.dtype),
        (prefactor * (of_positions + of_outermost)).to(positions.dtype),
        (prefactor * whole_cell).to(cell.dtype),
    )


class _Frame(NamedTuple):
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
    ) -> _Frame:
        """The frame of a structure; all ranks must call it, because slabs have theirs in common."""
        box = cell.requires_grad_()
        if bool(pbc.all()):
            return _Frame(box.unsqueeze(0), None, torch.zeros_like(box[0]), (box,), ([], []))
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
        return _Frame(cells, half_height, moved, (box, outermost), (places, atoms))

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
