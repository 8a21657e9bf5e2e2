r"""Plane waves at the places of atoms, as products of cosines and sines along each axis.

:math:`\mathbf k\cdot\mathbf r=\sum_an_a\theta_a` with the phases :math:`\theta_a=2\pi s_a` of
the fractional coordinates, so that only :math:`\cos n\theta_a` and :math:`\sin n\theta_a` are
evaluated, and sums over atoms are matrix products. Differentiation with respect to a phase
exchanges cosines and sines: along the first two axes it is done to the components, which are
few.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from les.native.waves import wave_kernels
from les.transfer import NONE, Derivative

#: Products of two axes at a time, so that they stay in cache (CPU), or keep many cores busy
#: (elsewhere).
PRODUCTS_AT_A_TIME, PRODUCTS_AT_A_TIME_ELSEWHERE = 2**17, 2**26


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


def combine(sums: Tensor, signs: Tensor) -> Tensor:
    r"""Structure factors from sums over products of cosines and sines.

    Args:
        sums: ``[n_channels, n_rows, 2 n1, 2 n2, 2 n3]``.
        signs: of :func:`combinations`.

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


def sums_over_atoms(charges: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """:meth:`Waves.spread` of ``charges [n_rows, n_atoms, n_channels]``, differentiable itself.

    For TorchScript and captured graphs.
    """
    n_rows, _, n_channels = charges.shape
    charged_z = (charges.unsqueeze(-1) * z.unsqueeze(-2)).flatten(2)
    sums = _products(x, y).transpose(1, 2) @ charged_z
    sums = sums.view(n_rows, x.shape[-1], y.shape[-1], n_channels, z.shape[-1])
    return sums.permute(3, 0, 1, 2, 4)


def values_at_atoms(components: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Its transpose, ``[n_rows, n_atoms, n_channels]``."""
    n_channels = components.shape[0]
    left = components.permute(1, 2, 3, 0, 4).flatten(1, 2).flatten(2)
    along_z = (_products(x, y) @ left).view(x.shape[0], x.shape[1], n_channels, z.shape[-1])
    return (along_z * z.unsqueeze(-2)).sum(dim=-1)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Of two axes ``[n_rows, n_atoms, 2 n1 * 2 n2]``."""
    return (x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(2)


class Waves(NamedTuple):
    """The basis of ``les.transfer``; atoms are ``[n_rows, n_atoms]``, places fractional."""

    x: Tensor
    y: Tensor
    z: Tensor

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Structure factors, as of :func:`combine`."""
        kernels = wave_kernels(self, self._factors(derivatives), derivatives)
        sums = self._sums(values, derivatives) if kernels is None else kernels.spread(values)
        return combine(sums, _kept_combinations(sums.dtype, sums.device))

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        sums = separate(
            components,
            [basis.shape[-1] // 2 - 1 for basis in self],
            _kept_combinations(components.dtype, components.device),
        )
        kernels = wave_kernels(self, self._factors(derivatives), derivatives)
        return self._values(sums, derivatives) if kernels is None else kernels.gather(sums)

    def _sums(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Of products of cosines and sines, ``[n_channels, n_rows, n1, n2, n3]``."""
        n_channels = values.shape[1]
        n_rows, n1, n2, n3 = self.x.shape[0], *(basis.shape[-1] for basis in self)
        in_plane, along_z = _by_first_axes(derivatives), self._third_axis(derivatives)
        values = values.permute(0, 2, 3, 1).unsqueeze(-1)
        sums = values.new_zeros([n_rows, n1 * n2, len(in_plane) * n_channels * n3])
        for rows, atoms in self._blocks():
            columns = []
            for members in in_plane.values():
                column: Tensor | None = None
                for place, last in members:
                    value, z = values[place, rows, atoms], along_z[last][rows, atoms].unsqueeze(-2)
                    column = value * z if column is None else column.addcmul_(value, z)
                assert column is not None
                columns.append(column)
            right = columns[0] if len(columns) == 1 else torch.cat(columns, dim=-2)
            products = _products(self.x[rows, atoms], self.y[rows, atoms])
            sums[rows].baddbmm_(products.transpose(1, 2), right.flatten(2))
        if derivatives != (NONE,):
            keys, kind = tuple(in_plane), (values.dtype, values.device)
            source, factors = _in_plane(keys, (n1, n2), False, *kind)
            sums = sums.view(n_rows, len(source), -1).index_select(1, source)
            sums = (sums.view(n_rows, *factors.shape[:2], -1) * factors).sum(dim=2)
        return sums.view(n_rows, n1, n2, n_channels, n3).permute(3, 0, 1, 2, 4)

    def _values(self, sums: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`_sums`."""
        n_channels, n_rows, n1, n2, _ = sums.shape
        in_plane, along_z = _by_first_axes(derivatives), self._third_axis(derivatives)
        left = sums.permute(1, 2, 3, 0, 4).reshape(n_rows, n1 * n2, -1)
        if derivatives != (NONE,):
            keys, kind = tuple(in_plane), (left.dtype, left.device)
            source, factors = _in_plane(keys, (n1, n2), True, *kind)
            left = left.index_select(1, source).view(n_rows, *factors.shape[:2], -1)
            left = (left * factors).flatten(2)
        values = sums.new_empty([len(derivatives), n_rows, self.x.shape[1], n_channels])
        for rows, atoms in self._blocks():
            products = _products(self.x[rows, atoms], self.y[rows, atoms])
            seen = (products @ left[rows]).unflatten(-1, (len(in_plane), n_channels, -1))
            found: dict[int, Tensor] = {}
            for last, z in along_z.items():
                wanted = [
                    (index, place)
                    for index, members in enumerate(in_plane.values())
                    for place, third in members
                    if third == last
                ]
                start, stop = wanted[0][0], wanted[-1][0] + 1
                z = z[rows, atoms].unsqueeze(-2).unsqueeze(-2)
                sums = (seen[:, :, start:stop] * z).sum(dim=-1).unbind(2)
                found.update({place: sums[index - start] for index, place in wanted})
            torch.stack([found[i] for i in range(len(found))], out=values[:, rows, atoms])
        return values.permute(0, 3, 1, 2)

    def _factors(self, derivatives: tuple[Derivative, ...]) -> list[Tensor]:
        """Of all derivatives along each axis ``[n_derivatives, n]``."""
        heights = 1 + max(map(max, derivatives))
        return [_all_along(b.shape[-1], heights, b.dtype, b.device) for b in self]

    def _third_axis(self, derivatives: tuple[Derivative, ...]) -> dict[int, Tensor]:
        """The third basis, with the derivatives along it."""
        found: dict[int, Tensor] = {}
        for times in {derivative[2] for derivative in derivatives}:
            source, factors = _along(self.z.shape[-1], times, self.z.dtype, self.z.device)
            found[times] = self.z.index_select(-1, source) * factors if times > 0 else self.z
        return found

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and atoms, a few at a time."""
        n_rows, n_atoms, n1 = self.x.shape
        cpu = self.x.device.type == "cpu"
        most = PRODUCTS_AT_A_TIME if cpu else PRODUCTS_AT_A_TIME_ELSEWHERE
        width = max(1, most // (n1 * self.y.shape[-1]))
        height = max(1, width // max(1, n_atoms))
        for row in range(0, n_rows, height):
            for atom in range(0, n_atoms, width):
                yield slice(row, row + height), slice(atom, atom + width)


@functools.lru_cache(maxsize=64)
def _by_first_axes(
    derivatives: tuple[Derivative, ...],
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Places in the list, and derivatives along the third axis, by those along the others.

    Each of the latter is a matrix product of its own.
    """
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, (first, second, third) in enumerate(derivatives):
        found.setdefault((first, second), []).append((place, third))
    return found


@functools.lru_cache(maxsize=64)
def _kept_combinations(dtype: torch.dtype, device: torch.device) -> Tensor:
    return combinations(torch.empty(0, dtype=dtype, device=device))


@functools.lru_cache(maxsize=64)
def _along(
    size: int, times: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A derivative along an axis: which of its cosines and sines becomes which, and factors."""
    source = torch.arange(size, device=device)
    if times % 2 == 1:
        source = source.roll(size // 2)
    powers = (2.0 * math.pi * torch.arange(size // 2, dtype=dtype, device=device)) ** times
    signs = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))[times % 4]
    return source, torch.cat([signs[0] * powers, signs[1] * powers])


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _all_along(size: int, heights: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Factors of :func:`_along` for each derivative below ``heights``."""
    return torch.stack([_along(size, times, dtype, device)[1] for times in range(heights)])


@functools.lru_cache(maxsize=64)
def _in_plane(
    derivatives: tuple[tuple[int, int], ...],
    sizes: tuple[int, int],
    transposed: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """As :func:`_along` for products of the first two axes ``[n1 * n2, n_derivatives]``.

    The transpose of a derivative is the negative one.
    """
    sources, factors = [], []
    for first, second in derivatives:
        (x, of_x), (y, of_y) = (
            _along(size, times, dtype, device)
            for size, times in zip(sizes, (first, second), strict=True)
        )
        sources.append((x.unsqueeze(1) * sizes[1] + y).flatten())
        sign = -1.0 if transposed and (first + second) % 2 == 1 else 1.0
        factors.append(sign * (of_x.unsqueeze(1) * of_y).flatten())
    source = torch.stack(sources, dim=1)
    if not transposed:
        # Each derivative has a product of its own.
        source = source * len(derivatives) + torch.arange(len(derivatives), device=device)
    return source.flatten(), torch.stack(factors, dim=1).unsqueeze(-1)
