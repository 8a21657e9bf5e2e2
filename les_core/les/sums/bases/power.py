r"""Weighted sums of the power :math:`|S_n|^2` of complex components."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.sums.vectorised import takes_batched_gradients


def weighted_power(components: Tensor, weights: Tensor) -> Tensor:
    r""":math:`\sum_{cn} w_n|S_{cn}|^2` of each structure, ``[n_structures]``.

    Args:
        components: ``[n_channels, n_structures, ...]``, complex.
        weights: ``[n_structures or 1, ...]``, real.
    """
    total: Tensor = _WeightedPower.apply(components, weights)
    return total


class _WeightedPower(torch.autograd.Function):
    """What autograd would do with real and imaginary parts takes several times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(components: Tensor, weights: Tensor) -> Tensor:
        return (weights * _power(components)).flatten(1).sum(dim=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, Tensor | None]:
        components, weights = ctx.saved_tensors
        incoming = incoming.view(-1, *[1] * (weights.dim() - 1))
        to_components = to_weights = None
        if ctx.needs_input_grad[0]:
            to_components = (2.0 * incoming * weights) * components
        if ctx.needs_input_grad[1]:
            to_weights = (incoming * _power(components)).sum_to_size(weights.shape)
        return to_components, to_weights

    @staticmethod
    def jvp(ctx: Any, of_components: Tensor | None, of_weights: Tensor | None) -> Tensor:
        components, weights = ctx.saved_tensors
        change = components.new_zeros([components.shape[1]], dtype=weights.dtype)
        if of_components is not None:
            product = components.real * of_components.real + components.imag * of_components.imag
            change = change + (2.0 * weights * product.sum(dim=0)).flatten(1).sum(dim=1)
        if of_weights is not None:
            change = change + (of_weights * _power(components)).flatten(1).sum(dim=1)
        return change


def _power(components: Tensor) -> Tensor:
    """Over all channels."""
    real, imaginary = components.real, components.imag
    power = torch.addcmul(real * real, imaginary, imaginary)
    return power.squeeze(0) if power.shape[0] == 1 else power.sum(dim=0)
