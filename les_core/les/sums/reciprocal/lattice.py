r"""Geometry of periodic cells: reciprocal vectors, volumes, and how far the k-grid reaches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.reciprocal.cutoff import EDGE_TOLERANCE


class Lattice(NamedTuple):
    """What the weights of k-points depend on."""

    #: Reciprocal vectors without the factor 2 pi ``[n_structures, 3, 3]`` [1/A].
    reciprocal: Tensor
    #: ``[n_structures]`` [A^3].
    volume: Tensor
    #: Where the Green's functions of slabs end ``[n_structures]`` [A], 0 for other structures;
    #: ``None`` if there are no slabs.
    half_height: Tensor | None


def cell_normals(cell: Tensor) -> Tensor:
    """Normals of the planes of the other two lattice vectors, as long as these span an area.

    ``[n_structures, 3, 3]`` of a cell of the same shape; rows are a2 x a3, a3 x a1, a1 x a2.
    """
    # Not `Tensor.roll`: NequIP models that torch 2.13 compiled had wrong gradients of the stress.
    a, b, c = cell.unbind(-2)
    return torch.linalg.cross(torch.stack([b, c, a], -2), torch.stack([c, a, b], -2), dim=-1)


def reciprocal_vectors(cell: Tensor) -> tuple[Tensor, Tensor]:
    r"""Reciprocal lattice vectors without the factor :math:`2\pi`, and volumes.

    Cross products rather than a matrix inverse: differentiable as often as needed, and plain
    arithmetic for compilers. A singular cell gives infinities instead of an error.

    Args:
        cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors, of either handedness.

    Returns:
        ``[n_structures, 3, 3]`` [1/A] with rows :math:`\mathbf b_a`,
        :math:`\mathbf b_a\cdot\mathbf a_b = \delta_{ab}`, and ``[n_structures]`` [A^3].
    """
    normals = cell_normals(cell)
    signed_volume = (cell[:, 0] * normals[:, 0]).sum(dim=-1)
    return normals / signed_volume.unsqueeze(-1).unsqueeze(-1), signed_volume.abs()


def exactly(values: Tensor) -> Tensor:
    """``values`` in float64, so that what is far away from the origin is not lost in rounding.

    On devices without float64 they stay as they are.
    """
    return values if values.device.type == "mps" else values.to(torch.float64)


def wrapped(fractional: Tensor) -> Tensor:
    """Fractional coordinates between -1/2 and 1/2.

    No phase changes, and float32 has the digits that it needs, also of atoms far away from the
    cell. Derivatives are those of the coordinates as given.
    """
    return fractional - torch.round(fractional.detach())


def from_first_atom(positions: Tensor, owner: Tensor, counts: Tensor) -> Tensor:
    """Positions ``[n_atoms, 3]`` [A] relative to the first atom of the structure.

    That place is taken as constant: where energies do not depend on the origin, all their
    derivatives are the same. But those with respect to cells are sums of coordinates times forces,
    which far from the origin would be lost in rounding.

    Args:
        positions: ``[n_atoms, 3]`` [A].
        owner: structure of each atom ``[n_atoms]``, in ascending order.
        counts: number of atoms of each structure ``[n_structures]``.

    Returns:
        ``[n_atoms, 3]`` [A], in the precision of :func:`exactly`.
    """
    first = torch.cumsum(counts, dim=0) - counts
    positions = exactly(positions)
    return positions - positions.detach().index_select(0, first.index_select(0, owner))


def open_directions(cell: Tensor, periodic: Tensor) -> Tensor:
    """Unit vectors ``[n_structures, 3, 3]`` for the open axes: axes of coordinates, or normals.

    Args:
        cell: ``[n_structures, 3, 3]`` [A].
        periodic: ``[n_structures, 3]``, boolean, with none, two or all axes true.

    Returns:
        Rows for all axes; the axes of coordinates where no axis is periodic, and the normal of
        the plane for the open axis of a slab. Other rows mean nothing.
    """
    axes = torch.eye(3, dtype=cell.dtype, device=cell.device).expand(cell.shape[0], 3, 3)
    is_slab = (periodic.sum(dim=1) == 2).view(-1, 1, 1) & ~periodic.unsqueeze(-1)
    # Elsewhere normals may be zero, and must not spoil derivatives.
    normals = torch.where(is_slab, cell_normals(cell), axes)
    return normals / torch.linalg.vector_norm(normals, dim=-1, keepdim=True)


def grid_reach(cell: Tensor, dl: float, edge_tolerance: float = EDGE_TOLERANCE) -> Tensor:
    r"""Largest :math:`|n_a|` along each lattice vector inside the k-sphere, not rounded down.

    From :math:`2\pi n_a = \mathbf k\cdot\mathbf a_a` follows
    :math:`|n_a| \le |\mathbf a_a|/dl`, whatever the shape of the cell.

    Args:
        cell: ``[n_structures, 3, 3]`` [A].
        dl: real-space resolution, ``k_max = 2 pi / dl`` [A].
        edge_tolerance: relative slack, as in ``cutoff.cutoff_weight``.

    Returns:
        ``[n_structures, 3]``.
    """
    lengths = torch.linalg.vector_norm(cell.detach(), dim=-1)
    return lengths / dl * (1.0 + edge_tolerance)


def grid_extent(cell: Tensor, dl: float) -> list[int]:
    """Extents of the k-grid that all of the cells ``[n_structures, 3, 3]`` need."""
    extent: list[int] = torch.floor(grid_reach(cell, dl).amax(dim=0)).to(torch.long).tolist()
    return extent
