r"""Invariants of products of the atomic basis (the B basis).

With :math:`m_l` the multinomial factor of the monomial l, and sums over monomials of degrees
:math:`|l_1| = D_1, ...`, the features of body order 1 to 4 beyond the atom itself are

.. math::
    A_0, \quad \sum_l m_l A_l^2, \quad
    \sum_{l_1 l_2} m_{l_1} m_{l_2} A_{l_1} A_{l_2} A_{l_1+l_2}, \quad
    \sum_{l_1 l_2 h} m_{l_1} m_{l_2} m_h A_{l_1} A_{l_2} A_{l_1+h} A_{l_2+h}

with :math:`D_1 \le D_2` for three and :math:`D_1 < D_2` for four factors (arXiv:2402.07472).
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from les_cace.angular import exponents, multinomial

#: Factors of one product (indices of monomials) -> its coefficient in a feature.
Terms = dict[tuple[int, ...], float]


def invariants(max_degree: int, max_order: int) -> list[Terms]:
    """The features as sums of products, equal products collected, in the order of the module.

    Raises:
        ValueError: for an order that is not 1, 2, 3 or 4.
    """
    if max_order not in (1, 2, 3, 4):
        raise ValueError(f"`max_nu` must be 1, 2, 3 or 4, got {max_order!r}")
    monomials = exponents(max_degree)
    index = {monomial: i for i, monomial in enumerate(monomials)}
    by_degree: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for monomial in monomials:
        by_degree[sum(monomial)].append(monomial)

    def add(*parts: tuple[int, int, int]) -> int:
        x, y, z = (sum(axis) for axis in zip(*parts))
        return index[x, y, z]

    features: list[Terms] = [{(0,): 1.0}]
    degrees = range(1, max_degree + 1)
    if max_order >= 2:
        features += [{(index[m],) * 2: multinomial(m) for m in by_degree[d]} for d in degrees]
    if max_order >= 3:
        for d1 in degrees:
            for d2 in range(d1, max_degree - d1 + 1):
                terms: Terms = defaultdict(float)
                for l1 in by_degree[d1]:
                    for l2 in by_degree[d2]:
                        factors = sorted((add(l1), add(l2), add(l1, l2)))
                        terms[tuple(factors)] += multinomial(l1) * multinomial(l2)
                features.append(terms)
    if max_order >= 4:
        for d1 in degrees:
            for d2 in range(d1 + 1, max_degree + 1):
                for d3 in range(1, max_degree - d2 + 1):
                    terms = defaultdict(float)
                    for l1 in by_degree[d1]:
                        for l2 in by_degree[d2]:
                            for h in by_degree[d3]:
                                factors = sorted((add(l1), add(l2), add(l1, h), add(l2, h)))
                                weight = multinomial(l1) * multinomial(l2) * multinomial(h)
                                terms[tuple(factors)] += weight
                    features.append(terms)
    return features


class Symmetrizer(nn.Module):
    """The invariant features of the atomic basis.

    Args:
        max_degree: highest degree of the monomials.
        max_order: highest number of factors, 1 to 4.
    """

    def __init__(self, max_degree: int, max_order: int) -> None:
        super().__init__()
        features = invariants(max_degree, max_order)
        self.n_features = len(features)
        #: Number of factors of each of the groups that are evaluated together.
        self.orders = list(range(2, max_order + 1))
        for order in self.orders:
            group = [terms for terms in features if len(next(iter(terms))) == order]
            products = sorted({product for terms in group for product in terms})
            weights = torch.zeros(len(group), len(products))
            for row, terms in enumerate(group):
                for product, weight in terms.items():
                    weights[row, products.index(product)] = weight
            factors = torch.tensor(products, dtype=torch.long).reshape(-1, order).T.contiguous()
            # Not part of a model's state: they follow from its arguments.
            self.register_buffer(f"weights_{order}", weights, persistent=False)
            self.register_buffer(f"factors_{order}", factors, persistent=False)

    def forward(self, basis: Tensor) -> Tensor:
        """Features ``[n_atoms, n_features, n]`` of ``basis`` ``[n_atoms, n_monomials, n]``."""
        features = [basis[:, :1]]
        for order in self.orders:
            factors, weights = (
                self.get_buffer(f"factors_{order}"),
                self.get_buffer(f"weights_{order}"),
            )
            if len(weights) == 0:  # too low a degree for this many factors
                continue
            product = basis.index_select(1, factors[0])
            for factor in factors[1:]:
                product = product * basis.index_select(1, factor)
            features.append(torch.matmul(weights.to(basis.dtype), product))
        return torch.cat(features, dim=1)
