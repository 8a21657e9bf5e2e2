"""Sums over atoms of products of cosines and sines along three axes, by matrix products.

Differentiation along the first two axes is done to the sums, which are few.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import NONE, Derivative
from les.sums.tables import kept_tables

#: Products of two axes at a time, so that they stay in cache (CPU), or keep many cores busy
#: (elsewhere).
PRODUCTS_AT_A_TIME, PRODUCTS_AT_A_TIME_ELSEWHERE = 2**17, 2**26


def products_of_two(x: Tensor, y: Tensor) -> Tensor:
    """Of two axes ``[n_rows, n_atoms, n1]`` and ``[n_rows, n_atoms, n2]``, ``[..., n1 * n2]``."""
    return (x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(2)


class WaveProducts(NamedTuple):
    """Of cosines and sines ``[n_rows, n_atoms, n]`` along each axis, with some derivatives."""

    x: Tensor
    y: Tensor
    z: Tensor
    derivatives: tuple[Derivative, ...]

    def spread(self, values: Tensor) -> Tensor:
        """Sums ``[n_channels, n_rows, n1, n2, n3]``.

        Of ``values [n_derivatives, n_channels, n_rows, n_atoms]``.
        """
        n_channels, derivatives = values.shape[1], self.derivatives
        n_rows, n1, n2, n3 = self.x.shape[0], *(axis.shape[-1] for axis in self[:3])
        in_plane, along_z = _by_first_axes(derivatives), self._third_axis()
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
            products = products_of_two(self.x[rows, atoms], self.y[rows, atoms])
            sums[rows].baddbmm_(products.transpose(1, 2), right.flatten(2))
        if derivatives != (NONE,):
            keys, kind = tuple(in_plane), (values.dtype, values.device)
            source, factors = _in_plane(keys, (n1, n2), False, *kind)
            sums = sums.view(n_rows, len(source), -1).index_select(1, source)
            sums = (sums.view(n_rows, *factors.shape[:2], -1) * factors).sum(dim=2)
        return sums.view(n_rows, n1, n2, n_channels, n3).permute(3, 0, 1, 2, 4)

    def gather(self, sums: Tensor) -> Tensor:
        """The transpose of :meth:`spread`."""
        derivatives = self.derivatives
        n_channels, n_rows, n1, n2, _ = sums.shape
        in_plane, along_z = _by_first_axes(derivatives), self._third_axis()
        left = sums.permute(1, 2, 3, 0, 4).reshape(n_rows, n1 * n2, -1)
        if derivatives != (NONE,):
            keys, kind = tuple(in_plane), (left.dtype, left.device)
            source, factors = _in_plane(keys, (n1, n2), True, *kind)
            left = left.index_select(1, source).view(n_rows, *factors.shape[:2], -1)
            left = (left * factors).flatten(2)
        values = sums.new_empty([len(derivatives), n_rows, self.x.shape[1], n_channels])
        for rows, atoms in self._blocks():
            products = products_of_two(self.x[rows, atoms], self.y[rows, atoms])
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

    def _third_axis(self) -> dict[int, Tensor]:
        """The third basis, with the derivatives along it."""
        found: dict[int, Tensor] = {}
        for times in {derivative[2] for derivative in self.derivatives}:
            source, factors = along(self.z.shape[-1], times, self.z.dtype, self.z.device)
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


@kept_tables(at_most=64)
def along(size: int, times: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """A derivative along an axis: which of its cosines and sines becomes which, and factors."""
    source = torch.arange(size, device=device)
    if times % 2 == 1:
        source = source.roll(size // 2)
    powers = (2.0 * math.pi * torch.arange(size // 2, dtype=dtype, device=device)) ** times
    signs = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))[times % 4]
    return source, torch.cat([signs[0] * powers, signs[1] * powers])


@kept_tables(at_most=64)
def _in_plane(
    derivatives: tuple[tuple[int, int], ...],
    sizes: tuple[int, int],
    transposed: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """As :func:`along` for products of the first two axes ``[n1 * n2, n_derivatives]``.

    The transpose of a derivative is the negative one.
    """
    sources, factors = [], []
    for first, second in derivatives:
        (x, of_x), (y, of_y) = (
            along(size, times, dtype, device)
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
