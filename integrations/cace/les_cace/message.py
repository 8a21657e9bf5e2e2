"""Messages: how the atomic basis of one layer becomes that of the next (arXiv:2402.07472)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from les_cace.angular import degree_sizes
from les_cace.radial import PolynomialCutoff


def _by_degree(max_degree: int, n_radial: int, n_channels: int) -> nn.ParameterList:
    shape = (n_radial, n_channels)
    return nn.ParameterList(nn.Parameter(torch.rand(shape)) for _ in range(max_degree + 1))


def _expanded(parameters: nn.ParameterList) -> Tensor:
    """Parameters of each degree as ``[n_monomials, n_radial * n_channels]``."""
    sizes = degree_sizes(len(parameters) - 1)
    rows = [x.reshape(1, -1).expand(size, -1) for x, size in zip(parameters, sizes)]
    return torch.cat(rows)


class Memory(nn.Module):
    """Keeps a part of an atom's own basis.

    Args:
        max_degree, n_radial, n_channels: of the basis.
    """

    def __init__(self, max_degree: int, n_radial: int, n_channels: int) -> None:
        super().__init__()
        self.coefficients = _by_degree(max_degree, n_radial, n_channels)
        for coefficient in self.coefficients:
            nn.init.constant_(coefficient, 0.25)

    def forward(self, basis: Tensor) -> Tensor:
        """Of ``basis`` ``[n_atoms, n_monomials, n_radial * n_channels]``."""
        return basis * _expanded(self.coefficients)


class RadialMessage(nn.Module):
    """The neighbours' basis, damped exponentially with the distance.

    Args:
        cutoff: the model's cutoff function.
        max_degree, n_radial, n_channels: of the basis.
    """

    def __init__(
        self, cutoff: PolynomialCutoff, max_degree: int, n_radial: int, n_channels: int
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.amplitudes = _by_degree(max_degree, n_radial, n_channels)
        self.decays = _by_degree(max_degree, n_radial, n_channels)
        for decay in self.decays:
            with torch.no_grad():
                decay.add_(0.5).div_(cutoff.cutoff)

    def forward(self, neighbours: Sequence[Tensor], distances: Tensor) -> Tensor:
        """Sum over neighbours, ``[n_atoms, n_monomials, n_radial * n_channels]``.

        Args:
            neighbours: of each degree, their basis
                ``[n_atoms, width, n_monomials of the degree, n_radial * n_channels]``.
            distances: of the neighbours ``[n_atoms, width]`` [A].
        """
        weight = self.cutoff(distances).unsqueeze(-1)
        parts = []
        for part, amplitude, decay in zip(neighbours, self.amplitudes, self.decays):
            damping = amplitude.reshape(-1) * torch.exp(
                -distances.unsqueeze(-1) * decay.reshape(-1)
            )
            parts.append((part * (weight * damping).unsqueeze(2)).sum(dim=1))
        return torch.cat(parts, dim=1)


class FeatureWeights(nn.Module):
    """Weights of a neighbour's contributions, read from its invariant features.

    Args:
        n_features: number of features of an atom.
        max_degree, n_channels: of the basis.
        shared_channels: the same weight for all channels.
        shared_degrees: the same weight for all degrees.
        hidden: widths of the hidden layers of the perceptron.
    """

    def __init__(
        self,
        n_features: int,
        max_degree: int,
        n_channels: int,
        shared_channels: bool = False,
        shared_degrees: bool = False,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.n_degrees, self.n_channels = max_degree + 1, n_channels
        self.shape = (1 if shared_degrees else max_degree + 1, 1 if shared_channels else n_channels)
        widths = [n_features, *hidden, self.shape[0] * self.shape[1]]
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Linear(width, following), nn.SiLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """Weights ``[n_atoms, n_degrees, n_channels]`` from ``features`` ``[n_atoms, n]``."""
        weights = self.network(features).view(-1, *self.shape)
        return weights.expand(-1, self.n_degrees, self.n_channels)
