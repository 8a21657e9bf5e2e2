r"""Plane waves at the places of atoms, as products of cosines and sines along each axis.

:math:`\mathbf k\cdot\mathbf r=\sum_an_a\theta_a` with the phases :math:`\theta_a=2\pi s_a` of
the fractional coordinates, so that only :math:`\cos n\theta_a` and :math:`\sin n\theta_a` are
evaluated. Differentiation with respect to a phase exchanges cosines and sines.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from les.sums.bases.adjoint import Derivative
from les.sums.bases.wave_products import WaveProducts
from les.sums.tables import kept_tables


def axis_bases(fractional: Tensor, extent: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of 2 pi n s for n = 0 ... extent, then sines, of ``fractional [n_rows, n_atoms, 3]``.

    Returns:
        ``[n_rows, n_atoms, 2 (extent + 1)]`` for each axis.
    """
    sizes = [extent[0] + 1, extent[1] + 1, extent[2] + 1]
    multiples = torch.zeros([3, sum(sizes)], dtype=fractional.dtype, device=fractional.device)
    start = 0
    for axis in range(3):
        n = torch.arange(sizes[axis], dtype=fractional.dtype, device=fractional.device)
        multiples[axis, start : start + sizes[axis]] = 2.0 * math.pi * n
        start += sizes[axis]
    angles = fractional @ multiples
    cosines = torch.cos(angles).split(sizes, dim=-1)
    sines = torch.sin(angles).split(sizes, dim=-1)
    return (
        torch.cat([cosines[0], sines[0]], dim=-1),
        torch.cat([cosines[1], sines[1]], dim=-1),
        torch.cat([cosines[2], sines[2]], dim=-1),
    )


def weighted_power(structure_factors: Tensor, weights: Tensor) -> Tensor:
    r""":math:`\sum_{cn} w_n|S_{cn}|^2` of each row, ``[n_rows]``.

    Args:
        structure_factors: those that :func:`combine` returns.
        weights: ``[n_rows, 4, n1 * n2 * n3]``.
    """
    power = structure_factors.square().sum(dim=3).sum(dim=0)
    return (weights * power).flatten(1).sum(dim=1)


def combine(sums: Tensor, signs: Tensor) -> Tensor:
    r"""Structure factors from sums over products of cosines and sines.

    Args:
        sums: ``[n_channels, n_rows, 2 n1, 2 n2, 2 n3]``.
        signs: the matrix that :func:`combinations` returns.

    Returns:
        ``[n_channels, n_rows, 4, 2, n1 * n2 * n3]``: real and imaginary part of the sum of
        :math:`e^{i(sn_1\theta_1+n_2\theta_2+tn_3\theta_3)}` for the signs (s, t) = (+, +),
        (+, -), (-, +), (-, -).
    """
    n_channels, n_rows, n1, n2, n3 = sums.shape
    sums = sums.unflatten(4, (2, n3 // 2)).unflatten(3, (2, n2 // 2)).unflatten(2, (2, n1 // 2))
    sums = sums.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(n_channels, n_rows, 8, -1)
    return (signs @ sums).view(n_channels, n_rows, 4, 2, -1)


def separate(structure_factors: Tensor, extent: list[int], signs: Tensor) -> Tensor:
    """The transpose of :func:`combine`."""
    n1, n2, n3 = extent[0] + 1, extent[1] + 1, extent[2] + 1
    n_channels, n_rows = structure_factors.shape[:2]
    sums = signs.t() @ structure_factors.flatten(2, 3)
    sums = sums.view(n_channels, n_rows, 2, 2, 2, n1, n2, n3).permute(0, 1, 2, 5, 3, 6, 4, 7)
    return sums.reshape(n_channels, n_rows, 2 * n1, 2 * n2, 2 * n3)


def combinations(like: Tensor) -> Tensor:
    """Matrix ``[8, 8]`` for :func:`combine`; columns are cosine or sine, the last axis fastest."""
    rows: list[list[float]] = []
    for s in [1.0, -1.0]:
        for t in [1.0, -1.0]:
            rows.append([1.0, 0.0, 0.0, -t, 0.0, -s * t, -s, 0.0])
            rows.append([0.0, t, 1.0, 0.0, s, 0.0, 0.0, -s * t])
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


class Waves:
    """The basis of ``adjoint``.

    Args:
        fractional: coordinates of the atoms ``[n_rows, n_atoms, 3]``, wrapped.
        extent: largest number of a wave along each axis.
    """

    # Not a dataclass, which modules that torch.package loads cannot define.
    def __init__(self, fractional: Tensor, extent: tuple[int, int, int]) -> None:
        self.fractional, self.extent = fractional, extent

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Structure factors; see :func:`combine`."""
        sums = WaveProducts(*self._axes, derivatives).spread(values)
        return combine(sums, _kept_combinations(sums.dtype, sums.device))

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        signs = _kept_combinations(components.dtype, components.device)
        sums = separate(components, list(self.extent), signs)
        return WaveProducts(*self._axes, derivatives).gather(sums)

    def weighted_power(self, components: Tensor, weights: Tensor) -> Tensor:
        """Sums ``[n_rows]`` of powers; ``weights`` are ``[n_rows, 4, n1 * n2 * n3]``."""
        return weighted_power(components, weights)

    def weighted(self, components: Tensor, weights: Tensor) -> Tensor:
        """Structure factors times the same weights."""
        return weights.unsqueeze(2) * components

    @functools.cached_property
    def _axes(self) -> tuple[Tensor, Tensor, Tensor]:
        return axis_bases(self.fractional, list(self.extent))


@kept_tables(at_most=64)
def _kept_combinations(dtype: torch.dtype, device: torch.device) -> Tensor:
    return combinations(torch.empty(0, dtype=dtype, device=device))
