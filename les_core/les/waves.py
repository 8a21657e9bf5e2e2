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

from les.transfer import Derivative

#: Products of two axes at a time, so that they stay in cache (CPU), or keep many cores busy
#: (elsewhere).
PRODUCTS_AT_A_TIME, PRODUCTS_AT_A_TIME_ELSEWHERE = 2**16, 2**26


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
        """Components ``[n_channels, n_rows, 2 n1, 2 n2, 2 n3]``."""
        n_channels = values.shape[1]
        n_rows, n1, n2, n3 = self.x.shape[0], *(basis.shape[-1] for basis in self)
        in_plane, along_z = self._sorted(derivatives)
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
        sums = sums.view(n_rows, n1, n2, len(in_plane), n_channels, n3).permute(3, 4, 0, 1, 2, 5)
        total: Tensor | None = None
        for part, (first, second) in zip(sums.unbind(0), in_plane, strict=True):
            part = _differentiate(_differentiate(part, 2, first), 3, second)
            total = part if total is None else total + part
        assert total is not None
        return total

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        n_channels, n_rows = components.shape[:2]
        in_plane, along_z = self._sorted(derivatives)
        parts = []
        for first, second in in_plane:
            part = _differentiate(_differentiate(components, 2, first), 3, second)
            # The transpose of a derivative is the negative one.
            parts.append(part.neg() if (first + second) % 2 == 1 else part)
        left = torch.stack(parts, dim=3).permute(1, 2, 4, 3, 0, 5).flatten(3).flatten(1, 2)
        shape = [n_rows, self.x.shape[1], len(derivatives), n_channels]
        values = components.new_empty(shape)
        for rows, atoms in self._blocks():
            products = _products(self.x[rows, atoms], self.y[rows, atoms])
            seen = (products @ left[rows]).unflatten(-1, (len(in_plane), n_channels, -1))
            for last, z in along_z.items():
                z = z[rows, atoms].unsqueeze(-2).unsqueeze(-2)
                wanted = [
                    (index, place)
                    for index, members in enumerate(in_plane.values())
                    for place, third in members
                    if third == last
                ]
                start, stop = wanted[0][0], wanted[-1][0] + 1
                summed = (seen[:, :, start:stop] * z).sum(dim=-1)
                for index, place in wanted:
                    values[rows, atoms, place] = summed[:, :, index - start]
        return values.permute(2, 3, 0, 1)

    def _sorted(
        self, derivatives: tuple[Derivative, ...]
    ) -> tuple[dict[tuple[int, int], list[tuple[int, int]]], dict[int, Tensor]]:
        """What has a sum of its own, and the third basis with the derivatives along it.

        The former are derivatives along the first two axes, with places in the list and
        derivatives along the third axis for each.
        """
        in_plane: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for place, (first, second, third) in enumerate(derivatives):
            in_plane.setdefault((first, second), []).append((place, third))
        lasts = {derivative[2] for derivative in derivatives}
        return in_plane, {last: _differentiate(self.z, -1, last) for last in lasts}

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


def _differentiate(values: Tensor, dim: int, times: int) -> Tensor:
    """Derivative of cosines and sines along ``dim`` with respect to a fractional coordinate."""
    if times == 0:
        return values
    dim %= values.dim()
    factors = _factors(values.shape[dim] // 2, times, values.dtype, values.device)
    halves = values.unflatten(dim, (2, -1))
    if times % 2 == 1:
        halves = halves.flip(dim)
    return (halves * factors.view(2, -1, *[1] * (values.dim() - dim - 1))).flatten(dim, dim + 1)


@functools.lru_cache(maxsize=64)
def _factors(size: int, times: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What cosines and sines ``[2, size]`` are multiplied with, after an exchange if odd."""
    n = (2.0 * math.pi * torch.arange(size, dtype=dtype, device=device)) ** times
    signs = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))[times % 4]
    return torch.stack([signs[0] * n, signs[1] * n])
