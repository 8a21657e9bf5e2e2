"""Energies by compiled kernels as functions of autograd, differentiable any number of times.

First derivatives come with the energies. Products of second derivatives with vectors, which
training on forces needs, have kernels too; beyond these, torch differentiates operations of its
own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers

from les.sums.method import FirstAndSecond
from les.sums.vectorised import takes_batched_gradients


def is_differentiated(value: Tensor) -> bool:
    """Whether derivatives with respect to ``value`` may be asked for."""
    # In torch.func and in forward mode it may not tell.
    forward = torch.autograd.forward_ad._current_level >= 0
    return value.requires_grad or forward or torch._C._are_functorch_transforms_active()


def energy_and_gradients(kernels: FirstAndSecond, *arguments: Tensor) -> tuple[Tensor, ...]:
    """Energies and first derivatives, as differentiable functions of the arguments."""
    results: tuple[Tensor, ...] = apply(_First, kernels, *arguments)
    return results


def refuse_third_derivatives() -> None:
    """Raise the error of what is compiled or traced."""
    raise RuntimeError(
        "third derivatives of the compiled sum are not supported: evaluate it without torch.compile"
    )


def _is_traced() -> bool:
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


class _First(torch.autograd.Function):
    @staticmethod
    def forward(kernels: FirstAndSecond, *arguments: Tensor) -> tuple[Tensor, ...]:
        return kernels.first(arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.kernels, *arguments = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arguments, *output[1:])
        ctx.save_for_forward(*arguments, *output[1:])

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, energy: Tensor | None, *incoming: Tensor | None) -> tuple[Any, ...]:
        n = len(incoming)
        arguments, gradients = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        found: list[Tensor | None] = [None] * n
        if energy is not None:
            found = [
                _times(ctx.kernels.factors(energy, i), gradient) if wanted else None
                for i, (gradient, wanted) in enumerate(
                    zip(gradients, ctx.needs_input_grad[1:], strict=True)
                )
            ]
        if any(direction is not None for direction in incoming):
            directions = [
                torch.zeros_like(argument) if direction is None else direction
                for argument, direction in zip(arguments, incoming, strict=True)
            ]
            for i, second in enumerate(apply(_Second, ctx.kernels, *arguments, *directions)):
                own = found[i]
                found[i] = second if own is None else own + second
        return None, *found

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        """Second derivatives are symmetric: both ways are the same."""
        n = len(tangents)
        arguments, gradients = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        directions = [
            torch.zeros_like(argument) if direction is None else direction
            for argument, direction in zip(arguments, tangents, strict=True)
        ]
        energy = sum(
            ctx.kernels.totals(gradient * direction, i)
            for i, (gradient, direction) in enumerate(zip(gradients, directions, strict=True))
        )
        return energy, *apply(_Second, ctx.kernels, *arguments, *directions)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], kernels: FirstAndSecond, *arguments: Tensor
    ) -> tuple[tuple[Tensor, ...], Any]:
        """What is vectorised over are structures."""
        return _as_structures(_First, info.batch_size, in_dims[1:], kernels, arguments)


class _Second(torch.autograd.Function):
    @staticmethod
    def forward(kernels: FirstAndSecond, *both: Tensor) -> tuple[Tensor, ...]:
        n = len(both) // 2
        return kernels.second(both[:n], both[n:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.kernels, *both = inputs
        ctx.save_for_backward(*both)
        ctx.save_for_forward(*both)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Any, ...]:
        if _is_traced():  # the graph would give wrong numbers
            refuse_third_derivatives()
        second = _plain_second(ctx.kernels)
        return None, *torch.func.vjp(second, *ctx.saved_tensors)[1](incoming)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        both = ctx.saved_tensors
        directions = tuple(
            torch.zeros_like(value) if direction is None else direction
            for value, direction in zip(both, tangents, strict=True)
        )
        found: tuple[Tensor, ...] = torch.func.jvp(_plain_second(ctx.kernels), both, directions)[1]
        return found

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], kernels: FirstAndSecond, *both: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """What is vectorised over, as the rows of a Hessian, are structures."""
        return _as_structures(_Second, info.batch_size, in_dims[1:], kernels, both)


def _times(factors: Tensor, values: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (values.dim() - 1)) * values


def apply(function: Any, *arguments: Any) -> Any:
    """``function.apply`` without its look at signatures, which takes as long as a small sum."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*unwrap_dead_wrappers(arguments))


def _as_structures(
    function: Any,
    size: int,
    in_dims: tuple[int | None, ...],
    kernels: FirstAndSecond,
    tensors: tuple[Tensor, ...],
) -> tuple[tuple[Tensor, ...], Any]:
    """One of the functions above, vectorised over ``in_dims`` of the ``tensors``."""
    if all(dim is None for dim in in_dims):
        found = function.apply(kernels, *tensors)
        return found, (None,) * len(found)
    rows = [
        (value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0))
        for value, dim in zip(tensors, in_dims, strict=True)
    ]
    found = function.apply(kernels.copies(size), *(value.flatten(0, 1) for value in rows))
    return tuple(value.unflatten(0, (size, -1)) for value in found), (0,) * len(found)


def _plain_second(kernels: FirstAndSecond) -> Callable[..., Any]:
    """``kernels.second`` by operations of torch, of arguments and directions in a row."""

    def first(*arguments: Tensor) -> Any:
        energy, pull, *_ = torch.func.vjp(kernels.plain, *arguments)
        return pull(torch.ones_like(energy))

    def second(*both: Tensor) -> Any:
        n = len(both) // 2
        return torch.func.vjp(first, *both[:n])[1](both[n:])

    return second
