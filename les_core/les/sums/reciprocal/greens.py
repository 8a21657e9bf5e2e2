"""Reciprocal-space Green's functions of Gaussian charges.

A Green's function here is the factor between ``|S(k)|^2`` and the energy, without the
prefactor ``2 pi k_e / V``. It depends on the cell only through the lengths of k, so that it is
differentiable with respect to the cell without special cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from les.sums.reciprocal.cutoff import GreensFunction, cutoff_weight
from les.sums.reciprocal.lattice import Lattice


def periodic_greens_function(k_squared: Tensor, greens: GreensFunction) -> Tensor:
    """Three-dimensional periodic kernel ``w(k) exp(-sigma^2 k^2 / 2) / k^2``, 0 at k = 0.

    Leaving out k = 0 is the neutralising background without any further correction.

    Args:
        k_squared: ``|k|^2`` [1/A^2], any shape.
        greens: width of the charges, and the cutoff.
    """
    origin = k_squared == 0.0
    # Divide by 1 at the origin, so that no infinity enters the derivatives there.
    safe = torch.where(origin, torch.ones_like(k_squared), k_squared)
    weight = cutoff_weight(safe, greens.start, greens.end)
    kernel = weight * torch.exp(-0.5 * greens.sigma**2 * safe) / safe
    return torch.where(origin, torch.zeros_like(kernel), kernel)


def lattice_greens_function(
    lattice: Lattice, k_squared: Tensor, numbers: Tensor, periodic: Callable[[Tensor], Tensor]
) -> Tensor:
    """Green's functions of structures with three and with two periodic axes.

    Args:
        lattice: the structures.
        k_squared: ``|k|^2`` of their k-points ``[n_structures, ..., ..., n]`` [1/A^2]. Along the
            last axis, which starts at 0, k changes along the third reciprocal vector, in slabs
            the normal.
        numbers: of the k-points along the last axis ``[n]``.
        periodic: the function for three periodic axes, of ``k_squared``.

    Returns:
        Values like ``k_squared``.
    """
    values = periodic(k_squared)
    if lattice.half_height is None:
        return values
    length = torch.linalg.vector_norm(lattice.reciprocal[:, 2], dim=1).view(-1, 1, 1, 1)
    k_normal = 2.0 * math.pi * length * numbers
    half_height = lattice.half_height.view(-1, 1, 1, 1)
    return slab_greens_function(values, k_squared, k_squared[..., :1], k_normal, half_height)


def slab_greens_function(
    kernel: Tensor,
    k_squared: Tensor,
    in_plane_squared: Tensor,
    k_normal: Tensor,
    half_height: Tensor,
) -> Tensor:
    r"""The kernel of charges with two periodic axes, where ``half_height`` is above 0.

    .. math:: K(k)\,[1 - e^{-k_\parallel z_c}\cos(k_z z_c)], \qquad -z_c^2/2\ \text{at}\ k = 0,

    the Fourier transform of a kernel that ends at the distance :math:`z_c` from a charge along
    the open axis (C. A. Rozzi et al., Phys. Rev. B 73, 205119 (2006)); exact for charges that
    are closer in a cell of the height :math:`2 z_c`.

    Args:
        kernel: the three-dimensional one K (:func:`periodic_greens_function`), any shape.
        k_squared: ``|k|^2`` [1/A^2].
        in_plane_squared: that of the component in the plane. The difference of the other two
            would be lost in rounding.
        k_normal: component of k along the open axis [1/A].
        half_height: :math:`z_c` [A]; 0 for structures with three periodic axes.
    """
    # The root has no derivative at 0, nor is one needed there: what is zero is so in every cell.
    inside = in_plane_squared > 0.0
    root = torch.sqrt(torch.where(inside, in_plane_squared, torch.ones_like(in_plane_squared)))
    decay = torch.where(inside, torch.exp(-root * half_height), torch.ones_like(root))
    of_slab = kernel * (1.0 - decay * torch.cos(k_normal * half_height))
    of_slab = torch.where(k_squared == 0.0, -0.5 * half_height * half_height, of_slab)
    return torch.where(half_height > 0.0, of_slab, kernel)
