"""Interactions of all pairs of an open structure, as published LES returns them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def make_kernels(
    r: Tensor,
    sigma: float,
    norm_const: float,
    compute_u: bool = True,
    compute_Q: bool = True,
) -> tuple[Tensor, None, None, None, None]:
    r"""Interactions :math:`c\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}` of unit charges.

    Args:
        r: positions ``[n_atoms, 3]`` [A], all different.
        sigma: width of the Gaussian charges [A].
        norm_const: the factor c.
        compute_u, compute_Q: also those with dipoles and quadrupoles; not supported yet, so both
            must be false.

    Returns:
        ``[n_atoms, n_atoms]``, zero on the diagonal; and four times ``None``, for the terms that
        are not supported.
    """
    for name, wanted in (("compute_u", compute_u), ("compute_Q", compute_Q)):
        if wanted:
            raise ValueError(f"`{name}` is not supported yet, it must be False")
    itself = torch.eye(r.shape[0], dtype=torch.bool, device=r.device)
    squared = (r.unsqueeze(0) - r.unsqueeze(1)).square().sum(dim=-1)
    # No infinity may enter the derivatives.
    distance = squared.masked_fill(itself, 1.0).sqrt()
    kernel = torch.erf(distance / (math.sqrt(2.0) * sigma)) / distance
    return norm_const * kernel.masked_fill(itself, 0.0), None, None, None, None
