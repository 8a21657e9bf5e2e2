"""Gradients of quantities of structures, in the shape that published LES gives them."""

from __future__ import annotations

import torch
from torch import Tensor


def grad(y: Tensor, x: Tensor, training: bool = True) -> Tensor:
    """Gradient of ``y``, summed over structures, with respect to ``x``.

    Args:
        y: ``[n_structures]`` or ``[n_structures, n]``, real or complex.
        x: what it depends on, such as positions ``[n_atoms, 3]``.
        training: keep the result differentiable.

    Returns:
        Shaped like ``x``; of several components ``[*x.shape, n]``.
    """
    if y.dim() == 2:
        return torch.stack([grad(component, x, training) for component in y.unbind(1)], dim=-1)
    if y.is_complex():
        return torch.complex(grad(y.real, x, training), grad(y.imag, x, training))
    (gradient,) = torch.autograd.grad(
        y.sum(), x, retain_graph=True, create_graph=training, allow_unused=True
    )
    return torch.zeros_like(x) if gradient is None else gradient
