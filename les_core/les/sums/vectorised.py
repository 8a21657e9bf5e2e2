"""Gradients of many rows at once, as a Hessian needs them, for functions of autograd that are ours.

``torch.autograd.grad(..., is_grads_batched=True)`` hands backward functions tensors of an older
kind than ``torch.vmap`` does, which only some operations of torch take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_is_of_rows = torch._C._functorch.is_legacy_batchedtensor


def takes_batched_gradients(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a ``backward`` that ``torch.vmap`` can vectorise take such tensors as well.

    Args:
        backward: static method of a ``torch.autograd.Function``, which returns a gradient, or
            ``None``, for each argument.
    """

    @functools.wraps(backward)
    def of_rows(ctx: Any, *incoming: Tensor | None) -> Any:
        for value in incoming:
            if _holds_rows(value):
                break
        else:
            return backward(ctx, *incoming)
        # There is no other way to ask for the level.
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        given, dims = list(incoming), [0 if _holds_rows(value) else None for value in incoming]
        for place, value in enumerate(incoming):
            if value is not None and dims[place] == 0:
                given[place] = torch._remove_batch_dim(value, level, 0, 0)
        wanted: list[int] = []

        def gradients(*incoming: Tensor | None) -> tuple[Tensor, ...]:
            found = backward(ctx, *incoming)
            found = found if isinstance(found, tuple) else (found,)
            wanted[:] = [len(found), *(i for i, value in enumerate(found) if value is not None)]
            return tuple(value for value in found if value is not None)

        found = torch.vmap(gradients, in_dims=tuple(dims))(*given)
        results: list[Tensor | None] = [None] * wanted[0]
        for place, value in zip(wanted[1:], found, strict=True):
            results[place] = torch._add_batch_dim(value, 0, level)
        return tuple(results)

    return of_rows


def not_vectorised(what: str) -> str:
    """The message where ``torch.vmap`` is asked for more than gradients."""
    return (
        f"torch.vmap over {what} of `les.Ewald` is not supported, because values are looked at: "
        "give several structures as one `batch`"
    )


def refuse_vectorised(charges: Tensor, positions: Tensor, cell: Tensor) -> None:
    """Raise NotImplementedError if ``torch.vmap`` goes over one of the arguments."""
    if not torch._C._are_functorch_transforms_active():
        return
    for name, value in (("charges", charges), ("positions", positions), ("cell", cell)):
        while torch._C._functorch.is_functorch_wrapped_tensor(value):
            if torch._C._functorch.is_batchedtensor(value):
                raise NotImplementedError(not_vectorised(f"`{name}`"))
            value = torch._C._functorch.get_unwrapped(value)


def _holds_rows(value: Tensor | None) -> bool:
    return value is not None and _is_of_rows(value)
