"""What the operators of ``les.sums.operator`` evaluate, with their derivatives.

Their arguments come as the operators have them: tensors, and then all that are no tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from les.sums.derivatives import (
    Gradients,
    change,
    differentiable_derivatives,
    first_derivatives,
    second_derivatives,
)
from les.sums.function import apply, refuse_third_derivatives
from les.sums.method import Settings
from les.sums.system import Given
from les.sums.vectorised import takes_batched_gradients

#: Types of tensors that nothing but torch evaluates.
_ORDINARY = (Tensor, torch.nn.Parameter)


def _given(tensors: Sequence[Any]) -> Given:
    # Autograd cannot save tensors of inference mode.
    usable = [
        value.clone() if value is not None and value.is_inference() else value for value in tensors
    ]
    return Given(*usable)


def _outputs(gradients: Gradients, like: Tensor) -> list[Tensor]:
    """A tensor also for what is not wanted: operators cannot return None."""
    return [like.new_empty(0) if value is None else value.contiguous() for value in gradients]


def evaluate_sum(*arguments: Any) -> tuple[Tensor, ...]:
    """What ``ewald_sum`` returns."""
    settings, wanted = Settings(*arguments[5:-1]), arguments[-1]
    energy, gradients = first_derivatives(_given(arguments[:5]), settings, wanted)
    return energy, *_outputs(gradients, energy)


def evaluate_product(*arguments: Any) -> tuple[Tensor, ...]:
    """What ``ewald_product`` returns."""
    directions, given = arguments[:3], _given(arguments[3:8])
    settings, wanted = Settings(*arguments[8:-1]), arguments[-1]
    gradients = second_derivatives(given, settings, directions, wanted)
    return tuple(_outputs(gradients, given.positions))


class Sum(torch.autograd.Function):
    """``ewald_sum`` above what evaluates it, which is the first argument.

    The last one are all of the operator's that are no tensors.
    """

    @staticmethod
    def forward(ctx: Any, below: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rest = arguments
        output: tuple[Tensor, ...] = below(*tensors, *rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.rest = rest
        return output

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, to_energy: Tensor | None, *incoming: Tensor | None) -> tuple[Any, ...]:
        saved, needed, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:4], ctx.rest[-1]
        batch = saved[3]
        found: list[Any] = [None, None, None]
        for i in range(3):
            if not needed[i]:
                continue
            if not wanted[i]:
                raise RuntimeError("`wanted` must be true for what requires gradients")
            if to_energy is not None:
                found[i] = _of_structures(to_energy, None if i == 2 else batch, saved[5 + i])
        directions = [g if chosen else None for g, chosen in zip(incoming, wanted, strict=True)]
        if any(direction is not None for direction in directions):
            second = _product(*directions, *saved[:5], *ctx.rest[:-1], list(needed))
            for i in range(3):
                if needed[i]:
                    found[i] = second[i] if found[i] is None else found[i] + second[i]
        return None, *found, None, None, None


def _of_structures(factors: Tensor, batch: Tensor | None, values: Tensor) -> Tensor:
    """Values times the factors of their structures, without ``batch`` of one or in a row each."""
    if batch is None and values.dim() < 3:
        return factors[0] * values
    if batch is not None:
        factors = factors[batch]
    return factors.view([-1] + [1] * (values.dim() - 1)) * values


class Product(torch.autograd.Function):
    """``ewald_product`` above what evaluates it; arguments are like those of :class:`Sum`."""

    @staticmethod
    def forward(ctx: Any, below: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rest = arguments
        output: tuple[Tensor, ...] = below(*tensors, *rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.settings, ctx.wanted = rest[:-1], rest[-1]
        return output

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Any, ...]:
        return None, *_after_second(ctx, *incoming), None


def _is_ordinary(arguments: Sequence[Any]) -> bool:
    """Whether nothing stands between autograd and the numbers of the tensors: no tracer, no mode.

    Then the sum is evaluated at once. To have torch find its way back here takes a sixth of the
    time of a small sum.
    """
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active():
        return False
    for value in arguments:
        if value is not None and (type(value) not in _ORDINARY or value.is_meta):
            return False
    return True


def with_autograd(
    function: Any, evaluate: Callable[..., Any], redispatch: Callable[..., Any], arguments: Any
) -> tuple[Tensor, ...]:
    """Results of an operator, differentiable.

    Args:
        function: :class:`Sum` or :class:`Product`.
        evaluate: evaluates the operator.
        redispatch: has torch evaluate it, below autograd.
        arguments: of the operator.
    """
    n_tensors = 5 if function is Sum else 8
    tensors = arguments[:n_tensors]
    below = evaluate if _is_ordinary(tensors) else redispatch
    differentiable = torch.is_grad_enabled() and torch._C._any_requires_grad(*tensors)
    if differentiable and _can_be_right(*tensors[-5:]):
        if function is Sum and below is evaluate:
            by_kernels = _evaluate_by_kernels(tensors, arguments[n_tensors:])
            if by_kernels is not None:
                return by_kernels
        found: tuple[Tensor, ...] = apply(function, below, *tensors, arguments[n_tensors:])
    else:
        with torch.no_grad():
            found = below(*arguments)
    return found


def _evaluate_by_kernels(tensors: Sequence[Any], rest: Sequence[Any]) -> tuple[Tensor, ...] | None:
    """``ewald_sum`` by kernels that are differentiable themselves, as without the operator.

    They keep what they have planned for their derivatives, which the other operator cannot.
    """
    given, settings, wanted = _given(tensors), Settings(*rest[:-1]), rest[-1]
    if any(leaf.requires_grad > chosen for leaf, chosen in zip(given[:3], wanted, strict=True)):
        return None
    found = differentiable_derivatives(given, settings, wanted)
    return None if found is None else (found[0], *_outputs(found[1], found[0]))


def _can_be_right(
    charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor | None, pbc: Tensor | None
) -> bool:
    """Whether derivatives could be traced. Other arguments are refused when they are evaluated."""
    if cell.dim() != 3 or charges.dim() == 0:
        return False
    return batch is None or (batch.dtype == torch.long and batch.shape[:1] == charges.shape[:1])


def _product(*arguments: Any) -> tuple[Tensor, ...]:
    """``torch.ops.les.ewald_product``, at once where that is possible."""
    operator = torch.ops.les.ewald_product
    if not _is_ordinary(arguments[:8]):
        found: tuple[Tensor, ...] = operator(*arguments)
        return found
    return with_autograd(Product, evaluate_product, operator, arguments)


def _after_second(ctx: Any, *incoming: Tensor | None) -> tuple[Any, ...]:
    """Any number of derivatives more, by those of the sum."""
    if torch._C._len_torch_dispatch_stack() > 0:
        refuse_third_derivatives()
    directions, given = ctx.saved_tensors[:3], Given(*ctx.saved_tensors[3:])
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, as one of them may depend on another.
        leaves = [_alias(value) for value in given[:3]]
        along = [None if value is None else _alias(value) for value in directions]
        total = change(leaves, given, Settings(*ctx.settings), along)
        differentiable = [leaf for leaf, chosen in zip(leaves, ctx.wanted, strict=True) if chosen]
        options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        second = torch.autograd.grad(total, differentiable, create_graph=True, **options)
        chosen = [value for value, flag in zip(incoming, ctx.wanted, strict=True) if flag]
        products = [
            (value * factor).sum()
            for value, factor in zip(second, chosen, strict=True)
            if factor is not None and value.requires_grad
        ]
        inputs = [*leaves, *(value for value in along if value is not None)]
        if products:
            total = torch.stack(products).sum()
            third = torch.autograd.grad(total, inputs, create_graph=again, **options)
        else:
            third = tuple(torch.zeros_like(value) for value in inputs)
    to_directions = iter(third[3:])
    of_directions = [None if value is None else next(to_directions) for value in along]
    return *of_directions, *third[:3], None, None, None


def _alias(value: Tensor) -> Tensor:
    return value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
