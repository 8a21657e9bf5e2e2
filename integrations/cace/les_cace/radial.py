"""Radial functions of the distance between two atoms.

B. Cheng, "Cartesian atomic cluster expansion for machine learning interatomic potentials",
npj Comput. Mater. 10, 157 (2024), arXiv:2402.07472.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PolynomialCutoff(nn.Module):
    r"""A polynomial that goes from 1 to 0 at the cutoff with ``exponent`` - 1 zero derivatives.

    .. math:: f(x) = 1 - \tfrac{(p+1)(p+2)}{2} x^p + p(p+2) x^{p+1} - \tfrac{p(p+1)}{2} x^{p+2}

    for :math:`x = r/r_c < 1`, else 0 (J. Gasteiger, J. Gross, S. Guennemann, arXiv:2003.03123).

    Args:
        cutoff: :math:`r_c` [A].
        exponent: :math:`p`.
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.exponent = exponent

    def forward(self, distances: Tensor) -> Tensor:
        """Values ``[...]`` at ``distances`` ``[...]`` [A]."""
        p = self.exponent
        x = distances / self.cutoff
        power = x**p
        value = 1.0 + power * (
            -(p + 1.0) * (p + 2.0) / 2.0 + x * (p * (p + 2.0) - x * p * (p + 1.0) / 2.0)
        )
        return torch.where(x < 1.0, value, torch.zeros_like(value))


class BesselBasis(nn.Module):
    r"""The functions :math:`a\,\sin(w_k r)/r`, where the frequencies :math:`w_k` are trained.

    Args:
        cutoff: of the model [A]; frequencies start at :math:`\pi k/r_c`, k = 1, 2, ...
        n_functions: number of functions.
        trainable: train the frequencies.
    """

    frequencies: Tensor
    amplitude: Tensor

    def __init__(self, cutoff: float, n_functions: int, trainable: bool = True) -> None:
        super().__init__()
        frequencies = math.pi / cutoff * torch.arange(1, n_functions + 1)
        if trainable:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)
        # A buffer, because published models have it rounded to float32.
        self.register_buffer("amplitude", torch.tensor(math.sqrt(2.0 / cutoff)))

    def forward(self, distances: Tensor) -> Tensor:
        """Values ``[n_atoms, n_functions, width]`` at ``distances`` ``[n_atoms, width]`` [A]."""
        r = distances.unsqueeze(1)
        return self.amplitude * torch.sin(self.frequencies.unsqueeze(1) * r) / r
