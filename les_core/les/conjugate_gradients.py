r"""Conjugate gradients for many linear systems at once, with sums of their unknowns kept.

Each structure of a batch has a system :math:`H x = b + \lambda` with :math:`\sum_i x_i = 0` in
each of its fragments, where :math:`\lambda` is one number for all atoms of a fragment and H is
symmetric, and positive on what sums to zero. All structures are multiplied with their H at once;
their step lengths are their own, and one that has converged does not change any more, so that it
does not matter which others it is with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

#: Residuals this small, relative to the right-hand side before constants are taken off it, are
#: rounding.
ROUNDING = 1e-14

#: Iterations between two looks at whether all structures have converged, which make a GPU wait.
LOOK_EVERY = 8


class Groups(NamedTuple):
    """Which atoms belong together, numbered from 0."""

    #: The group of each atom ``[n_atoms]``.
    owner: Tensor
    #: Number of groups.
    number: int

    def total(self, values: Tensor) -> Tensor:
        """Sums ``[number]`` of ``values`` ``[n_atoms]``."""
        return values.new_zeros(self.number).index_add(0, self.owner, values)


class Convergence(NamedTuple):
    """Where iterations end.

    Attributes:
        tolerance: largest residual, relative to that of the start.
        iterations: how many iterations there are at most.
    """

    tolerance: float = 1e-8
    iterations: int = 200


#: Where iterations end unless something else is asked for.
DEFAULT_CONVERGENCE = Convergence()


class Solution(NamedTuple):
    """Where conjugate gradients have come to."""

    #: The unknowns ``[n_atoms]``.
    values: Tensor
    #: How many iterations each structure took ``[n_structures]``.
    iterations: Tensor
    #: Residual of each structure ``[n_structures]``, relative to that of zero.
    residual: Tensor
    #: Whether it is small enough ``[n_structures]``.
    converged: Tensor


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    structures: Groups,
    fragments: Groups,
    convergence: Convergence,
) -> Solution:
    """Solve the systems of all structures.

    Args:
        multiply: H times numbers ``[n_atoms]``.
        right: right-hand sides b ``[n_atoms]``, in the precision that is calculated in.
        diagonal: an estimate of the diagonal of H, positive ``[n_atoms]``: the preconditioner.
        structures: whose systems are independent of one another.
        fragments: parts of structures, or all of one, whose unknowns sum to zero.
        convergence: where iterations end; residuals are in the norm of the preconditioner, and
            relative to that of x = 0.
    """
    tolerance, most = convergence
    owner, total = structures.owner, structures.total
    inverse = 1.0 / diagonal
    weight = fragments.total(inverse)

    def without_constant(values: Tensor) -> Tensor:
        """What the preconditioner makes sum to zero: constants do not count."""
        mean = fragments.total(inverse * values) / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return values - mean[fragments.owner]

    residual = without_constant(right)
    steepest = inverse * residual
    square = total(residual * steepest)
    start = square
    enough = (tolerance**2 * start).maximum(ROUNDING**2 * total(inverse * right.square()))
    active = ~(square <= enough)  # what is no number has not converged
    values, direction = torch.zeros_like(right), steepest
    iterations = torch.zeros_like(active, dtype=torch.long)
    look_every = 1 if right.device.type == "cpu" else LOOK_EVERY
    for iteration in range(most):
        if iteration % look_every == 0 and not bool(active.any()):
            break
        product = multiply(direction)
        curvature = total(direction * product)
        # Where H is not positive nothing goes on, and the residual stays.
        moving = active & (curvature > 0)
        step = torch.where(moving, square / curvature, 0.0)[owner]
        values = values + step * direction
        residual = without_constant(residual - step * product)
        steepest = inverse * residual
        before, square = square, total(residual * steepest)
        kept = torch.where(moving, square / before, 0.0)[owner]
        direction = steepest + kept * direction
        iterations = iterations + active.to(torch.long)
        active = active & ~(square <= enough)
    relative = torch.where(start > 0, square / start, start).sqrt()
    return Solution(values, iterations, relative, ~active)
