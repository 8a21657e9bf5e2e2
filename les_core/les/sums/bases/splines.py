r"""Splines of periodic meshes at the places of atoms.

A mesh of :math:`K_1\times K_2\times K_3` points sees a charge at fractional coordinates
:math:`\mathbf s` through :math:`\Phi_m(\mathbf s)=\prod_a\Phi(K_as_a-m_a)`, :math:`\Phi` being
the spline of order p (``bases.bspline``). The :math:`p^3` mesh points of an atom exist for a few
atoms at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import Derivative
from les.sums.bases.bspline import pieces

#: Pairs of atom and mesh point at a time, so that their arrays stay in cache (CPU), or keep
#: many cores busy (elsewhere).
PAIRS_AT_A_TIME, PAIRS_AT_A_TIME_ELSEWHERE = 2**17, 2**24


class MeshShape(NamedTuple):
    """Number of structures, which have a mesh each, and mesh points along lattice vectors."""

    n_structures: int
    k1: int
    k2: int
    k3: int


class _Stencil(NamedTuple):
    """Mesh points of a few atoms, and the splines there."""

    #: Which of all atoms.
    atoms: slice
    #: Flat mesh point ``[p * p * p * n_atoms]``.
    points: Tensor
    #: Splines and their derivatives ``[n_derivatives, p, 3, n_atoms]``.
    splines: Tensor

    def along(self, axis: int, derivative: int) -> Tensor:
        """``[p, n_atoms]``."""
        return self.splines[derivative, :, axis]


class SplineMesh(NamedTuple):
    """Splines of atoms ``[n_atoms]``, at fractional coordinates of any size."""

    #: ``[3, n_atoms]``.
    fractional: Tensor
    #: Structure of each atom ``[n_atoms]``; ``None`` for one structure.
    owner: Tensor | None
    shape: MeshShape
    order: int

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Densities ``[n_channels, n_structures, k1, k2, k3]``.

        Of ``values [n_derivatives, n_channels, n_atoms]``, as ``adjoint`` defines them.
        """
        n_channels = values.shape[1]
        mesh = values.new_zeros([n_channels, math.prod(self.shape)])
        by_last = _by_last_axis(derivatives)
        for stencil in self._stencils(derivatives):
            for channel in range(n_channels):
                densities: Tensor | None = None  # [p, p, p, n_atoms]
                for last, members in by_last.items():
                    plane: Tensor | None = None  # [p, p, n_atoms]
                    for place, (d1, d2, _) in members:
                        x = stencil.along(0, d1) * values[place, channel, stencil.atoms]
                        x, y = x.unsqueeze(1), stencil.along(1, d2)
                        plane = x * y if plane is None else plane.addcmul_(x, y)
                    assert plane is not None
                    plane, z = plane.unsqueeze(2), stencil.along(2, last)
                    densities = plane * z if densities is None else densities.addcmul_(plane, z)
                assert densities is not None
                mesh[channel].index_add_(0, stencil.points, densities.flatten())
        return mesh.view(n_channels, *self.shape)

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        n_channels, p = components.shape[0], self.order
        flat = components.reshape(n_channels, -1)
        shape = [len(derivatives), n_channels, self.fractional.shape[1]]
        values = components.new_empty(shape)
        by_last = _by_last_axis(derivatives)
        for stencil in self._stencils(derivatives):
            for channel in range(n_channels):
                seen = flat[channel].index_select(0, stencil.points).view(p, p, p, -1)
                for last, members in by_last.items():
                    plane = _contract(seen, stencil.along(2, last), 2)
                    lines: dict[int, Tensor] = {}
                    for place, (d1, d2, _) in members:
                        if d2 not in lines:
                            lines[d2] = _contract(plane, stencil.along(1, d2), 1)
                        value = _contract(lines[d2], stencil.along(0, d1), 0)
                        values[place, channel, stencil.atoms] = value
        return values

    def of_atoms(self, atoms: slice, owner: Tensor, shape: MeshShape) -> SplineMesh:
        """Splines of some of the atoms, which have meshes of their own."""
        return SplineMesh(self.fractional[:, atoms], owner, shape, self.order)

    def _stencils(self, derivatives: tuple[Derivative, ...]) -> Iterator[_Stencil]:
        """All atoms, a few at a time, with the derivatives that are needed."""
        fractional, owner, shape, order = self
        highest = max(max(derivative) for derivative in derivatives)
        n_atoms, device, dtype = fractional.shape[1], fractional.device, fractional.dtype
        sizes = torch.tensor(shape[1:], device=device).unsqueeze(1)
        index_dtype = torch.int32 if math.prod(shape) < 2**31 else torch.int64
        # Places along each axis, from order - 1 points before the first to one behind the last.
        wrapped = [
            (torch.arange(1 - order, size + 1, device=device) % size * stride).to(index_dtype)
            for size, stride in zip(shape[1:], (shape.k2 * shape.k3, shape.k3, 1), strict=True)
        ]
        polynomials = pieces(order, highest + 1).to(device, dtype).flatten(0, 1)
        scales = sizes.to(dtype) ** torch.arange(highest + 1, device=device).view(-1, 1, 1, 1)
        steps = torch.arange(order, device=device).flip(0).unsqueeze(1)
        at_a_time = PAIRS_AT_A_TIME if device.type == "cpu" else PAIRS_AT_A_TIME_ELSEWHERE
        width = max(1, at_a_time // order**3)
        for start in range(0, n_atoms, width):
            atoms = slice(start, min(start + width, n_atoms))
            s = fractional[:, atoms]
            scaled = (s - torch.floor(s)) * sizes
            floor = torch.floor(scaled)
            t = scaled - floor - 0.5
            powers = t.new_ones([order, *t.shape])
            for k in range(1, order):
                torch.mul(powers[k - 1], t, out=powers[k])
            splines = (polynomials @ powers.flatten(1)).view(highest + 1, *powers.shape)
            if highest > 0:
                splines = splines * scales
            floor = floor.to(torch.int64)
            x, y, z = (
                wrapped[axis].index_select(0, (floor[axis] + steps).flatten()).view(order, -1)
                for axis in range(3)
            )
            if owner is not None:
                x = x + (owner[atoms] * math.prod(shape[1:])).to(index_dtype)
            points = ((x.unsqueeze(1) + y).unsqueeze(2) + z).flatten()
            yield _Stencil(atoms, points, splines)


def _by_last_axis(derivatives: tuple[Derivative, ...]) -> dict[int, list[tuple[int, Derivative]]]:
    """Derivatives and their places in the list, sorted by that along the third vector."""
    sorted_: dict[int, list[tuple[int, Derivative]]] = {}
    for place, derivative in enumerate(derivatives):
        sorted_.setdefault(derivative[2], []).append((place, derivative))
    return sorted_


def _contract(values: Tensor, splines: Tensor, dim: int) -> Tensor:
    """Sum over the axis ``dim`` of ``values [..., p, n_atoms]`` with ``splines [p, n_atoms]``."""
    parts, factors = values.unbind(dim), splines.unbind(0)
    total = parts[0] * factors[0]
    for part, factor in zip(parts[1:], factors[1:], strict=True):
        total.addcmul_(part, factor)
    return total
