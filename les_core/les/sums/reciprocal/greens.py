"""Reciprocal-space Green's functions of Gaussian charges.

A Green's function here is the factor between ``|S(k)|^2`` and the energy, without the
prefactor ``2 pi k_e / V``. It depends on the cell only through the lengths of k, so that it is
differentiable with respect to the cell without special cases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.greens import greens_function
from les.sums.cpu.library import library
from les.sums.reciprocal.cutoff import GreensFunction, cutoff_ends, cutoff_weight


def periodic_greens_function(
    k_squared: Tensor, sigma: float, k_max: float, smooth: bool, captured: bool = False
) -> Tensor:
    """Three-dimensional periodic kernel ``w(k) exp(-sigma^2 k^2 / 2) / k^2``, 0 at k = 0.

    Leaving out k = 0 is the neutralising background without any further correction.

    Args:
        k_squared: ``|k|^2`` [1/A^2], any shape.
        sigma: width of the Gaussian charges [A].
        k_max: radius of the k-sphere [1/A].
        smooth: see ``cutoff.cutoff_weight``.
        captured: only operations of torch, for a graph that is being captured.
    """
    if not torch.jit.is_scripting():
        compiled = None if captured else library(k_squared.device, k_squared.dtype)
        if compiled is not None:
            return _native_greens_function(compiled, k_squared, sigma, k_max, smooth)
    origin = k_squared == 0.0
    # Divide by 1 at the origin, so that no infinity enters the derivatives there.
    safe = torch.where(origin, torch.ones_like(k_squared), k_squared)
    kernel = cutoff_weight(safe, k_max, smooth) * torch.exp(-0.5 * sigma**2 * safe) / safe
    return torch.where(origin, torch.zeros_like(kernel), kernel)


@torch.jit.unused
def _native_greens_function(
    compiled: Any, k_squared: Tensor, sigma: float, k_max: float, smooth: bool
) -> Tensor:
    return greens_function(compiled, GreensFunction(sigma, *cutoff_ends(k_max, smooth)), k_squared)


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
        kernel: the three-dimensional one K, as of :func:`periodic_greens_function`, any shape.
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
