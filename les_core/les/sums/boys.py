r"""The Boys functions, which the interactions of Gaussian multipoles are made of.

.. math:: F_n(t) = \int_0^1 x^{2n}e^{-tx^2}\,dx, \qquad F_n' = -F_{n+1},

so that :math:`\mathrm{erf}(r/\sqrt2\sigma)/r = \sqrt{2/\pi}\,F_0(r^2/2\sigma^2)/\sigma`, without a
singularity at r = 0. The recursion between neighbours,
:math:`2tF_{n+1} = (2n+1)F_n - e^{-t}`, is stable upwards for large t and downwards for small ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from les.sums.vectorised import takes_batched_gradients

#: Up to here functions begin with the series of the highest one, beyond with the error function.
END_OF_SERIES = 4.0


def boys(t: Tensor, highest: int) -> Tensor:
    """F_0 ... F_``highest`` of ``t``, which is not negative, ``[highest + 1, *t.shape]``.

    They are differentiable any number of times.
    """
    values: Tensor = _Boys.apply(t, highest)
    return values


class _Boys(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor, highest: int) -> Tensor:
        decay = torch.exp(-t)
        far, near = t.clamp(min=END_OF_SERIES), t.clamp(max=END_OF_SERIES)
        upwards = [0.5 * math.sqrt(math.pi) * torch.erf(far.sqrt()) / far.sqrt()]
        half = 0.5 / far
        for n in range(highest):
            upwards.append(half * ((2 * n + 1) * upwards[n] - decay))
        downwards = [_series(near, highest) * decay]
        for n in range(highest - 1, -1, -1):
            downwards.append((2.0 * near * downwards[-1] + decay) / (2 * n + 1))
        is_near = t < END_OF_SERIES
        found = zip(upwards, reversed(downwards), strict=True)
        return torch.stack([torch.where(is_near, small, large) for large, small in found])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        t, ctx.highest = inputs
        ctx.save_for_backward(t)
        ctx.save_for_forward(t)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        (t,) = ctx.saved_tensors
        return -(incoming * boys(t, ctx.highest + 1)[1:]).sum(dim=0), None

    @staticmethod
    def jvp(ctx: Any, of_t: Tensor, _: None) -> Tensor:
        (t,) = ctx.saved_tensors
        return -of_t * boys(t, ctx.highest + 1)[1:]


def _series(t: Tensor, n: int) -> Tensor:
    r""":math:`e^tF_n(t)=\sum_k(2t)^k/\prod_{j\le k}(2n+2j+1)`, of which all terms are positive."""
    enough, term, n_terms = torch.finfo(t.dtype).eps, 1.0, 0
    while term > enough:
        n_terms += 1
        term *= 2.0 * END_OF_SERIES / (2 * n + 2 * n_terms + 1)
    total = torch.ones_like(t)
    twice = 2.0 * t
    for k in range(n_terms, 0, -1):
        total = torch.addcmul(torch.ones_like(t), total, twice, value=1.0 / (2 * n + 2 * k + 1))
    return total / (2 * n + 1)
