"""The CACE representation done plainly, to measure ``les_cace`` against.

As the formulas are written, with the radial functions and monomials of ``les_cace``: one tensor
of all edges, radial functions, monomials and channels, summed over the neighbours of each atom,
and one feature after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from les import Carried
from les_cace import Representation
from les_cace.angular import exponents, multinomial

#: Weight and factors (indices of monomials) of the products in a feature.
Products = list[tuple[int, tuple[int, ...]]]


class NaiveRepresentation(Representation):
    """``representation`` with the same weights and results.

    Args:
        representation: without messages, or with those of the kind ``"Bchi"``; ``max_nu`` is
            at most 3.
        arguments: those it was made with.
    """

    def __init__(self, representation: Representation, arguments: Mapping[str, Any]) -> None:
        super().__init__(**arguments)
        self.load_state_dict(representation.state_dict())
        self.products = products(len(self.degree_sizes) - 1, arguments["max_nu"])

    def forward(
        self,
        vectors: Tensor,
        sender: Tensor,
        element: Tensor,
        state: Tensor | None = None,
        carried: list[Carried] | None = None,
    ) -> Tensor:
        """As that of the base class."""
        senders = self.sender_embedding[element]
        receivers = senders if self.receiver_embedding is None else self.receiver_embedding[element]
        if state is not None:
            senders, receivers = senders + state, receivers + state
        pairs = torch.nonzero(vectors.norm(dim=1) < self.cutoff).squeeze(1)
        receiver = pairs // max(sender.shape[1], 1)
        sender, between = sender.flatten()[pairs], vectors[pairs]
        vectors = between.t().unsqueeze(-1)  # one neighbour in each row
        distances = torch.linalg.vector_norm(vectors, dim=0)
        radial = self.radial_basis(distances) * self.cutoff_function(distances).unsqueeze(-1)
        angular = self.monomials(vectors, distances)
        channels = torch.einsum("ei,ej->eij", senders[sender], receivers[receiver]).flatten(1)
        attributes = torch.einsum(
            "ek,el,ec->eklc", radial.squeeze(-1), angular.squeeze(-1), channels
        )
        basis = self._basis(attributes, receiver, len(element))
        features = [self._features(basis)]
        for layer in self._layers():
            assert layer.weights is not None and layer.memory is None and layer.radial is None
            sizes = torch.tensor(self.degree_sizes, device=vectors.device)
            weights = layer.weights(features[-1].flatten(1)).repeat_interleave(sizes, dim=1)
            taken = weights[sender]
            if carried is not None:
                carried.append(Carried(taken, between))
            message = attributes * taken.unsqueeze(1)
            basis = self.message_scale * self._basis(message, receiver, len(element))
            features.append(self._features(basis))
        return torch.stack(features, dim=-1)

    def _basis(self, attributes: Tensor, receiver: Tensor, n_atoms: int) -> Tensor:
        """``[n_atoms, n_mixtures, n_monomials, n_channels]``."""
        sums = attributes.new_zeros(n_atoms, *attributes.shape[1:])
        parts = sums.index_add(0, receiver, attributes).split(self.degree_sizes, dim=2)
        mixed = [torch.einsum("nklc,kmc->nmlc", x, weight) for x, weight in zip(parts, self.mixing)]
        return torch.cat(mixed, dim=2)

    def _features(self, basis: Tensor) -> Tensor:
        """``[n_atoms, n_mixtures, n_invariants, n_channels]``."""
        features = []
        for terms in self.products:
            factors = torch.tensor([factors for _, factors in terms], device=basis.device)
            weights = basis.new_tensor([weight for weight, _ in terms])
            product = basis[:, :, factors[:, 0]]
            for column in factors.T[1:]:
                product = product * basis[:, :, column]
            features.append((weights[:, None] * product).sum(dim=2))
        return torch.stack(features, dim=2)


def products(max_degree: int, max_order: int) -> list[Products]:
    """The products in each feature, of up to three factors."""
    monomials = exponents(max_degree)
    index = {monomial: i for i, monomial in enumerate(monomials)}
    degrees = range(1, max_degree + 1)
    of_degree = {d: [m for m in monomials if sum(m) == d] for d in degrees}
    features: list[Products] = [[(1, (0,))]]
    if max_order >= 2:
        features += [
            [(multinomial(m), (index[m], index[m])) for m in of_degree[d]] for d in degrees
        ]
    if max_order < 3:
        return features
    for d, e in itertools.combinations_with_replacement(degrees, 2):
        if d + e > max_degree:
            continue
        terms: Products = []
        for a, b in itertools.product(of_degree[d], of_degree[e]):
            weight = multinomial(a) * multinomial(b)
            both = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
            terms.append((weight, (index[a], index[b], index[both])))
        features.append(terms)
    return features
