"""Monomials of the direction from one atom to another.

All arrays of the representation have an axis of monomials in the order of
:func:`exponents`: by degree, within a degree first those with more x, then more y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Added to distances before directions are taken; the published models were trained with it.
LENGTH_OFFSET = 1e-9


def exponents(max_degree: int) -> list[tuple[int, int, int]]:
    """Exponents (x, y, z) of all monomials up to ``max_degree``."""
    return [
        (x, y, degree - x - y)
        for degree in range(max_degree + 1)
        for x in range(degree, -1, -1)
        for y in range(degree - x, -1, -1)
    ]


def degree_sizes(max_degree: int) -> list[int]:
    """Number of monomials of each degree."""
    return [(degree + 1) * (degree + 2) // 2 for degree in range(max_degree + 1)]


def multinomial(monomial: tuple[int, int, int]) -> int:
    """How often ``monomial`` occurs in a power of (x + y + z)."""
    factorials = [math.factorial(n) for n in monomial]
    return math.factorial(sum(monomial)) // math.prod(factorials)


class Monomials(nn.Module):
    """All monomials of unit vectors up to a degree.

    Args:
        max_degree: highest degree.
    """

    def __init__(self, max_degree: int) -> None:
        super().__init__()
        # Each is one of lower degree times one component: where that is, and which component.
        known = exponents(max_degree)
        self.parents: list[int] = []
        self.axes: list[int] = []
        for monomial in known[1:]:
            axis = next(axis for axis in range(3) if monomial[axis] > 0)
            lower = list(monomial)
            lower[axis] -= 1
            self.parents.append(known.index((lower[0], lower[1], lower[2])))
            self.axes.append(axis)

    def forward(self, vectors: Tensor, distances: Tensor) -> Tensor:
        """Monomials ``[n_atoms, n_monomials, width]`` of the directions.

        Args:
            vectors: ``[3, n_atoms, width]`` [A].
            distances: their lengths ``[n_atoms, width]`` [A].
        """
        components = (vectors / (distances + LENGTH_OFFSET)).unbind()
        values = [torch.ones_like(distances)]
        for parent, axis in zip(self.parents, self.axes):
            values.append(values[parent] * components[axis])
        return torch.stack(values, dim=1)
