r"""From atoms to a periodic mesh and back with B-splines, differentiable any number of times.

A mesh of :math:`K_1\times K_2\times K_3` points sees a charge at fractional coordinates
:math:`\mathbf s` through :math:`\Phi_m(\mathbf s)=\prod_a M_p(K_as_a-m_a)`, :math:`M_p` being
the B-spline of order p. :func:`spread` and :func:`gather` are each other's transpose,

.. math::
    \rho_m = \sum_{d,i} f_{di}\,\partial^d\Phi_m(\mathbf s_i), \qquad
    g_{di} = \sum_m V_m\,\partial^d\Phi_m(\mathbf s_i),

for a list of derivatives d. The gradient of each is the other one with one derivative more, so
that they can be differentiated again and again, and keep only their arguments for it. The
:math:`p^3` mesh points of an atom exist for a few atoms at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.bspline import pieces

#: Pairs of atom and mesh point at a time, so that their arrays stay in cache (CPU), or keep
#: many cores busy (elsewhere).
PAIRS_AT_A_TIME, PAIRS_AT_A_TIME_ELSEWHERE = 2**17, 2**24

#: How often along each lattice vector something is differentiated.
Derivative = tuple[int, int, int]

NONE: Derivative = (0, 0, 0)


class MeshShape(NamedTuple):
    """Number of structures, which have a mesh each, and mesh points along lattice vectors."""

    n_structures: int
    k1: int
    k2: int
    k3: int


def spread(
    values: Tensor,
    fractional: Tensor,
    owner: Tensor | None,
    shape: MeshShape,
    order: int,
    derivatives: tuple[Derivative, ...] = (NONE,),
) -> Tensor:
    r"""Mesh densities :math:`\rho` of values at atoms.

    Args:
        values: ``[n_derivatives, n_channels, n_atoms]``.
        fractional: fractional coordinates ``[3, n_atoms]``, of any size.
        owner: structure of each atom ``[n_atoms]``; ``None`` for one structure.
        shape: of the mesh.
        order: of the splines.
        derivatives: what ``values`` multiply, with respect to fractional coordinates.

    Returns:
        ``[n_channels, n_structures, k1, k2, k3]``.
    """
    mesh: Tensor = _Spread.apply(values, fractional, owner, shape, order, derivatives)
    return mesh


def gather(
    mesh: Tensor,
    fractional: Tensor,
    owner: Tensor | None,
    order: int,
    derivatives: tuple[Derivative, ...] = (NONE,),
) -> Tensor:
    """Values ``[n_derivatives, n_channels, n_atoms]`` at the atoms; arguments as of `spread`."""
    values: Tensor = _Gather.apply(mesh, fractional, owner, order, derivatives)
    return values


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


def _stencils(
    fractional: Tensor, owner: Tensor | None, shape: MeshShape, order: int, highest: int
) -> Iterator[_Stencil]:
    """All atoms, a few at a time; derivatives up to the ``highest``."""
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


def _highest(derivatives: tuple[Derivative, ...]) -> int:
    return max(max(derivative) for derivative in derivatives)


def _spread(
    values: Tensor,
    fractional: Tensor,
    owner: Tensor | None,
    shape: MeshShape,
    order: int,
    derivatives: tuple[Derivative, ...],
) -> Tensor:
    n_channels = values.shape[1]
    mesh = values.new_zeros([n_channels, math.prod(shape)])
    by_last = _by_last_axis(derivatives)
    for stencil in _stencils(fractional, owner, shape, order, _highest(derivatives)):
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
    return mesh.view(n_channels, *shape)


def _gather(
    mesh: Tensor,
    fractional: Tensor,
    owner: Tensor | None,
    order: int,
    derivatives: tuple[Derivative, ...],
) -> Tensor:
    n_channels = mesh.shape[0]
    shape = MeshShape(*mesh.shape[1:])
    flat = mesh.reshape(n_channels, -1)
    values = mesh.new_empty([len(derivatives), n_channels, fractional.shape[1]])
    by_last = _by_last_axis(derivatives)
    for stencil in _stencils(fractional, owner, shape, order, _highest(derivatives)):
        for channel in range(n_channels):
            seen = flat[channel].index_select(0, stencil.points).view(order, order, order, -1)
            for last, members in by_last.items():
                plane = _contract(seen, stencil.along(2, last), 2)
                lines: dict[int, Tensor] = {}
                for place, (d1, d2, _) in members:
                    if d2 not in lines:
                        lines[d2] = _contract(plane, stencil.along(1, d2), 1)
                    value = _contract(lines[d2], stencil.along(0, d1), 0)
                    values[place, channel, stencil.atoms] = value
    return values


def _contract(values: Tensor, splines: Tensor, dim: int) -> Tensor:
    """Sum over the axis ``dim`` of ``values [..., p, n_atoms]`` with ``splines [p, n_atoms]``."""
    parts, factors = values.unbind(dim), splines.unbind(0)
    total = parts[0] * factors[0]
    for part, factor in zip(parts[1:], factors[1:], strict=True):
        total.addcmul_(part, factor)
    return total


def _with_gradient(
    derivatives: tuple[Derivative, ...],
) -> tuple[tuple[Derivative, ...], list[list[int]]]:
    """All first derivatives of some derivatives, each once, and where those of each axis are."""
    places: dict[Derivative, int] = {derivative: i for i, derivative in enumerate(derivatives)}
    axes: list[list[int]] = []
    for axis in range(3):
        found = []
        for derivative in derivatives:
            raised = list(derivative)
            raised[axis] += 1
            found.append(places.setdefault((raised[0], raised[1], raised[2]), len(places)))
        axes.append(found)
    return tuple(places), axes


def _gradients(
    mesh: Tensor,
    values: Tensor,
    fractional: Tensor,
    owner: Tensor | None,
    order: int,
    derivatives: tuple[Derivative, ...],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Of the product of ``mesh`` and spread ``values``, by ``values`` and coordinates."""
    to_values = to_fractional = None
    n = len(derivatives)
    if wanted[1]:
        all_, axes = _with_gradient(derivatives)
        skipped = 0 if wanted[0] else n
        # Derivatives of the list itself come first, unless they are first derivatives as well.
        if skipped and any(place < n for axis in axes for place in axis):
            skipped = 0
        seen = gather(mesh, fractional, owner, order, all_[skipped:])
        rows = [
            (values * seen[torch.tensor(axis, device=seen.device) - skipped]).sum(dim=(0, 1))
            for axis in axes
        ]
        to_fractional = torch.stack(rows)
        if wanted[0]:
            to_values = seen[:n]
    elif wanted[0]:
        to_values = gather(mesh, fractional, owner, order, derivatives)
    return to_values, to_fractional


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        fractional: Tensor,
        owner: Tensor | None,
        shape: MeshShape,
        order: int,
        derivatives: tuple[Derivative, ...],
    ) -> Tensor:
        ctx.save_for_backward(values, fractional, owner)
        ctx.settings = order, derivatives
        return _spread(values, fractional, owner, shape, order, derivatives)

    @staticmethod
    def backward(ctx: Any, mesh: Tensor) -> tuple[Tensor | None, ...]:
        values, fractional, owner = ctx.saved_tensors
        order, derivatives = ctx.settings
        found = _gradients(
            mesh, values, fractional, owner, order, derivatives, ctx.needs_input_grad[:2]
        )
        return *found, None, None, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mesh: Tensor,
        fractional: Tensor,
        owner: Tensor | None,
        order: int,
        derivatives: tuple[Derivative, ...],
    ) -> Tensor:
        ctx.save_for_backward(mesh, fractional, owner)
        ctx.settings = order, derivatives
        return _gather(mesh, fractional, owner, order, derivatives)

    @staticmethod
    def backward(ctx: Any, values: Tensor) -> tuple[Tensor | None, ...]:
        mesh, fractional, owner = ctx.saved_tensors
        order, derivatives = ctx.settings
        to_mesh = to_fractional = None
        if ctx.needs_input_grad[0]:
            shape = MeshShape(*mesh.shape[1:])
            to_mesh = spread(values, fractional, owner, shape, order, derivatives)
        if ctx.needs_input_grad[1]:
            _, to_fractional = _gradients(
                mesh, values, fractional, owner, order, derivatives, (False, True)
            )
        return to_mesh, to_fractional, None, None, None
