"""Derivatives within a derivative, which implicit functions take of what they solve.

The backward pass of a solution evaluates the sum once more, of inputs that are differentiated with
respect to by themselves, although some of them may depend on others; and it may itself be
differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def aliases(values: list[Tensor | None], wanted: list[bool], again: bool) -> list[Tensor | None]:
    """The same values, to be differentiated with respect to by themselves.

    Args:
        values: inputs of the function whose derivatives are taken, ``None`` where there is none.
        wanted: of which of them.
        again: whether derivatives are to be differentiated; then values that depend on others stay
            connected with these.
    """
    found: list[Tensor | None] = []
    for value, flag in zip(values, wanted, strict=True):
        if value is None:
            found.append(None)
        elif again and value.requires_grad:
            found.append(value.view_as(value))
        else:
            found.append(value.detach().requires_grad_(flag))
    return found


def gradients(
    value: Tensor, leaves: list[Tensor | None], wanted: list[bool], again: bool
) -> list[Tensor | None]:
    """Gradients of ``value`` by those of the ``leaves`` that are wanted, ``None`` for the others.

    Args:
        value: a single number; one that depends on nothing has gradients that are zero.
        leaves: what :func:`aliases` returned.
        wanted, again: as there.
    """
    chosen = [leaf for leaf, flag in zip(leaves, wanted, strict=True) if flag and leaf is not None]
    if not value.requires_grad or not chosen:
        found = [torch.zeros_like(leaf) for leaf in chosen]
    else:
        found = list(
            torch.autograd.grad(
                value, chosen, create_graph=again, allow_unused=True, materialize_grads=True
            )
        )
    remaining = iter(found)
    return [next(remaining) if flag else None for flag in wanted]
