r"""Weighted sums of the power :math:`|S_n|^2` of complex components."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, Tensor | None]:
        components, weights = ctx.saved_tensors
        incoming = incoming.view(-1, *[1] * (weights.dim() - 1))
        to_components = to_weights = None
        if ctx.needs_input_grad[0]:
            to_components = (2.0 * incoming * weights) * components
        if ctx.needs_input_grad[1]:
            to_weights = (incoming * _power(components)).sum_to_size(weights.shape)
        return to_components, to_weights


def _power(components: Tensor) -> Tensor:
    """Over all channels."""
    real, imaginary = components.real, components.imag
    power = torch.addcmul(real * real, imaginary, imaginary)
    return power.squeeze(0) if power.shape[0] == 1 else power.sum(dim=0)
