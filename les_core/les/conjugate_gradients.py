r"""Conjugate gradients for many linear systems at once: one for each structure of a batch.

Each structure has a system :math:`H x = b`, with H symmetric, and positive on what its
preconditioner leaves. All structures are multiplied with their H at once; their step lengths are
their own, and one that has converged does not change any more, so that it does not matter which
others it is with.

A preconditioner that makes the unknowns of each fragment of a structure sum to zero solves for
:math:`H x = b + \lambda`, where :math:`\lambda` is one number for all atoms of a fragment
(:func:`without_sums`).
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

#: Of a residual: the part of it that counts, and what the preconditioner makes of that.
Preconditioner = Callable[[Tensor], tuple[Tensor, Tensor]]


class Groups(NamedTuple):
    """Which atoms belong together, numbered from 0."""

    #: The group of each atom ``[n_atoms]``.
    owner: Tensor
    #: Number of groups.
    number: int

    def total(self, values: Tensor) -> Tensor:
        """Sums ``[number]`` of ``values`` ``[n_atoms]`` or ``[n_atoms, n]``."""
        values = values if values.dim() == 1 else values.sum(dim=1)
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

    #: The unknowns ``[n_atoms]`` or ``[n_atoms, n]``.
    values: Tensor
    #: How many iterations each structure took ``[n_structures]``.
    iterations: Tensor
    #: Residual of each structure ``[n_structures]``, relative to that of zero.
    residual: Tensor
    #: Whether it is small enough ``[n_structures]``.
    converged: Tensor
    #: Whether H was positive along all directions that were taken ``[n_structures]``.
    positive: Tensor


def conjugate_gradients(
    multiply: Callable[[Tensor, Tensor], Tensor],
    precondition: Preconditioner,
    right: Tensor,
    structures: Groups,
    convergence: Convergence,
    rounding: Tensor | None = None,
) -> Solution:
    """Solve the systems of all structures.

    Args:
        multiply: H times a direction, of which it is also told the combination of residuals that
            the preconditioner has made it of.
        precondition: see :data:`Preconditioner`.
        right: right-hand sides b ``[n_atoms]`` or ``[n_atoms, n]``, in the precision that is
            calculated in.
        structures: whose systems are independent of one another.
        convergence: where iterations end; residuals are in the norm of the preconditioner, and
            relative to that of x = 0.
        rounding: square of a residual in that norm which is rounding ``[n_structures]``.
    """
    total = structures.total

    def of_atoms(numbers: Tensor) -> Tensor:
        return numbers[structures.owner].view([-1] + [1] * (right.dim() - 1))

    residual, steepest = precondition(right)
    square = total(residual * steepest)
    start, enough = square, convergence.tolerance**2 * square
    if rounding is not None:
        enough = enough.maximum(rounding)
    active = ~(square <= enough)  # what is no number has not converged
    positive = torch.ones_like(active)
    values, direction, combined = torch.zeros_like(steepest), steepest, residual
    iterations = torch.zeros_like(active, dtype=torch.long)
    look_every = 1 if right.device.type == "cpu" else LOOK_EVERY
    for iteration in range(convergence.iterations):
        if iteration % look_every == 0 and not bool(active.any()):
            break
        product = multiply(direction, combined)
        curvature = total(direction * product)
        # Where H is not positive nothing goes on, and the residual stays.
        positive = positive & ~(active & ~(curvature > 0))
        active = active & positive
        step = of_atoms(torch.where(active, square / curvature, 0.0))
        values = values + step * direction
        residual, steepest = precondition(residual - step * product)
        before, square = square, total(residual * steepest)
        kept = of_atoms(torch.where(active, square / before, 0.0))
        direction, combined = steepest + kept * direction, residual + kept * combined
        iterations = iterations + active.to(torch.long)
        active = active & ~(square <= enough)
    relative = torch.where(start > 0, square / start, start).sqrt()
    return Solution(values, iterations, relative, square <= enough, positive)


def without_sums(diagonal: Tensor, fragments: Groups) -> Preconditioner:
    """The preconditioner of unknowns ``[n_atoms]`` that sum to zero in each fragment.

    Args:
        diagonal: an estimate of the diagonal of H, positive ``[n_atoms]``.
        fragments: parts of structures, or all of one.
    """
    inverse = 1.0 / diagonal
    weight = fragments.total(inverse).clamp(min=torch.finfo(diagonal.dtype).tiny)

    def precondition(residual: Tensor) -> tuple[Tensor, Tensor]:
        # Constants do not count.
        mean = fragments.total(inverse * residual) / weight
        residual = residual - mean[fragments.owner]
        return residual, inverse * residual

    return precondition
