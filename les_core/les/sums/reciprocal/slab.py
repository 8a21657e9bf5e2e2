r"""Structures with two periodic axes as periodic ones, in a cell of their own along the open axis.

Under the truncated Green's function of ``les.sums.reciprocal.greens.slab_greens_function`` the
images of a slab along the open axis do not act on it, if they are far enough away: how far depends
on the charges' extent along that axis only. The cell's own vector along that axis, the vacuum,
plays no part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.sums.reciprocal.lattice import exactly, open_directions

#: Height of the cell beyond twice the extent of the charges, in units of their width: the
#: interaction of charges so far apart with images is cut off to 1e-11.
PADDING = 14.0

#: Slabs are moved along their normal by multiples of this [A] towards the origin.
STEP = 64.0


def slab_cells(
    cell: Tensor,
    pbc: Tensor,
    positions: Tensor,
    batch: Tensor,
    sigma: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells to sum in, where the Green's function is truncated, and places in these cells.

    Args:
        cell: ``[n_structures, 3, 3]`` [A].
        pbc: ``[n_structures, 3]``, boolean.
        positions: ``[n_atoms, 3]`` [A].
        batch: structure of each atom ``[n_atoms]``.
        sigma: width of the Gaussian charges [A].

    Returns:
        Cells ``[n_structures, 3, 3]`` [A], where slabs have their open axis last, along the
        normal; the distances at which their kernels end ``[n_structures]`` [A], 0 for other
        structures; and positions ``[n_atoms, 3]`` [A], those of slabs near the origin.
    """
    dtype, cell, positions = cell.dtype, exactly(cell), exactly(positions)
    is_slab = pbc.sum(dim=1) == 2
    # Where the open axis goes last, in cyclic order: (1, 2, 0), (2, 0, 1) or (0, 1, 2).
    open_axis = torch.argmin(pbc.to(torch.long), dim=1)
    order = (open_axis.unsqueeze(1) + torch.arange(1, 4, device=cell.device)) % 3
    rows = order.unsqueeze(2).expand(-1, -1, 3)
    turned = cell.gather(1, rows)
    normal = open_directions(cell, pbc).gather(1, rows)[:, 2]

    # The height follows the outermost atoms, as does its gradient: where the k-sum is not
    # converged the energy depends on it a little, and must be continuous and have that force.
    height = (positions * normal[batch]).sum(dim=1)
    top, bottom = (
        _outermost(height, batch, cell.shape[0]),
        _outermost(-height, batch, cell.shape[0]),
    )
    length = torch.where(is_slab, 2.0 * (top + bottom), torch.zeros_like(top)) + PADDING * sigma
    padded = torch.stack([turned[:, 0], turned[:, 1], length.unsqueeze(1) * normal], dim=1)
    cells = torch.where(is_slab.view(-1, 1, 1), padded, cell)
    half_heights = torch.where(is_slab, 0.5 * length, torch.zeros_like(length))
    # The height of the cell changes with the slab: coordinates along it must not be large. The
    # steps are long because on a mesh each changes the energy by the error of the mesh.
    steps = STEP * torch.round(0.5 * (top - bottom).detach() / STEP)
    moved = torch.where(is_slab, steps, torch.zeros_like(steps)).unsqueeze(1) * normal.detach()
    return cells.to(dtype), half_heights.to(dtype), (positions - moved[batch]).to(dtype)


def _outermost(height: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Largest ``height [n_atoms]`` in each structure, 0 in one without atoms."""
    n_atoms = height.shape[0]
    largest = torch.full([n_structures], -float("inf"), dtype=height.dtype, device=height.device)
    largest = largest.scatter_reduce(0, batch, height.detach(), "amax")
    # One atom of those that share it: its gradient is as good as any other's.
    atoms = torch.arange(n_atoms, device=batch.device)
    candidates = torch.where(height.detach() == largest[batch], atoms, n_atoms)
    chosen = torch.full([n_structures], n_atoms, device=batch.device)
    chosen = chosen.scatter_reduce(0, batch, candidates, "amin")
    padded = torch.cat([height, torch.zeros_like(largest[:1])])
    return padded[chosen]
