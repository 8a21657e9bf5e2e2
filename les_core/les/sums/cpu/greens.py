r"""The periodic Green's function :math:`w(k)e^{-\sigma^2k^2/2}/k^2` by a compiled kernel.

A function of :math:`k^2` alone. The gradient of each of its derivatives is the next one.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import call
from les.sums.cpu.threads import in_parallel
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.vectorised import takes_batched_gradients

#: Operations that one value of the Green's function costs.
WORK_PER_NUMBER = 16


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "order")),
        *((name, ctypes.c_double) for name in GreensFunction._fields),
    )


def greens_function(compiled: ctypes.CDLL, function: GreensFunction, k_squared: Tensor) -> Tensor:
    """Values like ``k_squared``, 0 at 0 and beyond the edge, by the kernels of ``library``."""
    values: Tensor = _Evaluate.apply(k_squared, compiled, function, 0)
    return values


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(
        k_squared: Tensor, compiled: ctypes.CDLL, function: GreensFunction, order: int
    ) -> Tensor:
        k_squared = k_squared.contiguous()
        values = torch.empty_like(k_squared)

        def part(first: int, last: int) -> None:
            task = _Task(last - first, order, *function)
            flat = (array.view(-1)[first:last] for array in (k_squared, values))
            call(compiled.les_greens, task, *flat)

        in_parallel(part, values.numel(), WORK_PER_NUMBER * values.numel())
        return values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        k_squared, *ctx.settings = inputs
        ctx.save_for_backward(k_squared)
        ctx.save_for_forward(k_squared)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None, None, None]:
        (k_squared,), (*function, order) = ctx.saved_tensors, ctx.settings
        return incoming * _Evaluate.apply(k_squared, *function, order + 1), None, None, None

    @staticmethod
    def jvp(ctx: Any, direction: Tensor, *_: None) -> Tensor:
        (k_squared,), (*function, order) = ctx.saved_tensors, ctx.settings
        slope: Tensor = _Evaluate.apply(k_squared, *function, order + 1)
        return direction * slope

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], k_squared: Tensor, *settings: Any
    ) -> tuple[Tensor, int | None]:
        return _Evaluate.apply(k_squared, *settings), in_dims[0]
