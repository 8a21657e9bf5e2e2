r"""Invariants of products of the atomic basis (the B basis).

With :math:`m_l` the multinomial factor of the monomial l, and sums over monomials of degrees
:math:`|l_1| = D_1, ...`, the features of body order 1 to 4 beyond the atom itself are

.. math::
    A_0, \quad \sum_l m_l A_l^2, \quad
    \sum_{l_1 l_2} m_{l_1} m_{l_2} A_{l_1} A_{l_2} A_{l_1+l_2}, \quad
    \sum_{l_1 l_2 h} m_{l_1} m_{l_2} m_h A_{l_1} A_{l_2} A_{l_1+h} A_{l_2+h}

with :math:`D_1 \le D_2` for three and :math:`D_1 < D_2` for four factors (arXiv:2402.07472).
They are evaluated by way of :math:`U^D_h = \sum_{|l|=D} m_l A_l A_{l+h}`, as
:math:`\sum_h m_h A_h U^{D_2}_h` and :math:`\sum_h m_h U^{D_1}_h U^{D_2}_h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from les_cace.angular import exponents, multinomial

#: Two indices -> weight of the product of what they stand for, in a sum.
Products = dict[tuple[int, int], int]


class Symmetrizer(nn.Module):
    """The invariant features of the atomic basis.

    Args:
        max_degree: highest degree of the monomials.
        max_order: highest number of factors, 1 to 4.

    Raises:
        ValueError: for an order that is not 1, 2, 3 or 4.
    """

    def __init__(self, max_degree: int, max_order: int) -> None:
        super().__init__()
        if max_order not in (1, 2, 3, 4):
            raise ValueError(f"`max_nu` must be 1, 2, 3 or 4, got {max_order!r}")
        degrees = range(1, max_degree + 1)
        # By degrees of the factors, D_1, D_2 and that of h.
        threes = [(d, e) for d in degrees for e in range(d, max_degree - d + 1)]
        fours = [(d, e, h) for d in degrees for e in range(d + 1, max_degree) for h in degrees]
        fours = [(d, e, h) for d, e, h in fours if e + h <= max_degree]
        threes, fours = threes * (max_order >= 3), fours * (max_order >= 4)

        monomials = exponents(max_degree)
        index = {monomial: i for i, monomial in enumerate(monomials)}
        of_degree = {d: [m for m in monomials if sum(m) == d] for d in degrees}

        def sum_index(first: tuple[int, ...], second: tuple[int, ...]) -> int:
            x, y, z = (a + b for a, b in zip(first, second))
            return index[x, y, z]

        # Places of U, after the monomials.
        used = {(e, d) for d, e in threes}
        used |= {(d, h) for d, _, h in fours} | {(e, h) for _, e, h in fours}
        keys = [(d, h) for d, degree in sorted(used) for h in of_degree[degree]]
        place = {key: len(monomials) + i for i, key in enumerate(keys)}
        pairs = [
            {(index[m], sum_index(m, h)): multinomial(m) for m in of_degree[d]} for d, h in keys
        ]
        features = [
            {(index[h], place[e, h]): multinomial(h) for h in of_degree[d]} for d, e in threes
        ]
        features += [
            {(place[d, h], place[e, h]): multinomial(h) for h in of_degree[degree]}
            for d, e, degree in fours
        ]
        self.pairs = SumOfProducts(pairs)
        self.features = SumOfProducts(features)
        norms = torch.zeros(max_degree * (max_order >= 2), len(monomials))
        for d, row in zip(degrees, norms):
            for monomial in of_degree[d]:
                row[index[monomial]] = multinomial(monomial)
        # Not part of a model's state: they follow from its arguments.
        self.register_buffer("norms", norms, persistent=False)
        self.n_features = 1 + len(norms) + len(features)

    def forward(self, basis: Tensor) -> Tensor:
        """Features ``[n_atoms, n_features, n]`` of ``basis`` ``[n_atoms, n_monomials, n]``."""
        features = [basis[:, :1], self.get_buffer("norms") @ basis.square()]
        if len(self.features) > 0:
            features.append(self.features(torch.cat([basis, self.pairs(basis)], dim=1)))
        return torch.cat(features, dim=1)


class SumOfProducts(nn.Module):
    """Weighted sums of products of two rows.

    Args:
        sums: the products in each sum.
    """

    def __init__(self, sums: Sequence[Products]) -> None:
        super().__init__()
        products = sorted({product for terms in sums for product in terms})
        weights = torch.zeros(len(sums), len(products))
        for row, terms in zip(weights, sums):
            for product, weight in terms.items():
                row[products.index(product)] = weight
        left, right = torch.tensor(products, dtype=torch.long).reshape(-1, 2).T.contiguous()
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)

    def __len__(self) -> int:
        return len(self.get_buffer("weights"))

    def forward(self, rows: Tensor) -> Tensor:
        """Sums ``[n_atoms, n_sums, n]`` of products of ``rows`` ``[n_atoms, n_rows, n]``."""
        left, right = self.get_buffer("left"), self.get_buffer("right")
        return _SumOfProducts.apply(rows, self.get_buffer("weights"), left, right)


class _SumOfProducts(torch.autograd.Function):
    """:class:`SumOfProducts`, differentiable any number of times.

    Left to autograd, training on forces would keep the factors of all products and of their
    derivatives, most of the memory of a training step.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weights, left, right)
        return weights @ (rows.index_select(1, left) * rows.index_select(1, right))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Gradient.apply(gradient, *ctx.saved_tensors), None, None, None


class _Gradient(torch.autograd.Function):
    """The gradient of :class:`_SumOfProducts` with respect to the rows.

    It is linear in the gradient and in the rows: its own derivatives are of the same kind.
    """

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, rows: Tensor, weights: Tensor, left: Tensor, right: Tensor
    ) -> Tensor:
        ctx.save_for_backward(gradient, rows, weights, left, right)
        share = weights.t() @ gradient
        total = torch.zeros_like(rows)
        total.index_add_(1, left, share * rows.index_select(1, right))
        return total.index_add_(1, right, share.mul_(rows.index_select(1, left)))

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
        gradient, rows, weights, left, right = ctx.saved_tensors
        along = direction.index_select(1, left) * rows.index_select(1, right)
        along = along + direction.index_select(1, right) * rows.index_select(1, left)
        turned = _Gradient.apply(gradient, direction, weights, left, right)
        return weights @ along, turned, None, None, None
