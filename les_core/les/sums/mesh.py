r"""Particle-mesh sum over k-points, for a batch of periodic structures.

The charges are spread over a mesh with splines, a Fourier transform of the mesh gives the
structure factors, and dividing by the splines' own transform,
:math:`U(\mathbf n)=\prod_a\hat\Phi(n_a/K_a)`, undoes what the spreading did to them:

.. math::
    \sum_{k\ne0} K(k)|S(\mathbf k)|^2 \approx
    \sum_{\mathbf n} \frac{K(k)}{U^2(\mathbf n)} |\hat\rho_{\mathbf n}|^2,\qquad
    \rho_{\mathbf m} = \sum_i q_i\prod_a\Phi(K_as_{ia}-m_a).

Spreading depends on the fractional coordinates alone, the kernel on the cell alone. It is the
kernel of the direct sum with its cutoff, so that both give the same result up to the error of
the interpolation. Beyond the cutoff nothing is needed: the transforms drop those components
axis by axis. The method is smooth PME, U. Essmann et al., J. Chem. Phys. 103, 8577 (1995), for
charges that are Gaussians already, but for the splines and U (see ``bases.bspline``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import expand
from les.sums.bases.bspline import squared_factor
from les.sums.bases.mesh_waves import MeshWaves
from les.sums.bases.splines import MeshShape
from les.sums.memory import MOST_POINTS, too_many_points
from les.sums.method import Engine, Part, Settings, Sums
from les.sums.reciprocal.cutoff import EDGE_TOLERANCE
from les.sums.reciprocal.greens import lattice_greens_function
from les.sums.reciprocal.lattice import Lattice, exactly, reciprocal_vectors, wrapped
from les.sums.sources import DERIVATIVES, along_axes, self_factors, turned
from les.sums.system import System, select
from les.sums.tables import kept_tables

#: Number of atoms from which on they are sorted by place, so that neighbours in memory are
#: neighbours in space, and mesh points of a side of the bins that they are sorted into.
SORTED_FROM, BIN = 2048, 8


def mesh_sum(part: Part, settings: Settings, engine: Engine, compute_potential: bool) -> Sums:
    r"""Energies of :math:`\frac1V\sum_{k\ne0} w(k) e^{-\sigma^2k^2/2}|S(k)|^2/k^2`.

    Complexity O(N p^3 + M log M) for a mesh of M points, memory O(N + M), also of the
    derivatives. Structures with meshes of the same size are transformed together.

    Args:
        part: periodic structures.
        settings: of the sum.
        engine: who does the loops.
        compute_potential: also return the derivative with respect to the charges.

    Returns:
        Energy per structure ``[n_structures]`` [eV], and its derivative with respect to the charges
        ``[n_atoms, n_channels]`` [eV/e] (or ``None``).

    Raises:
        ValueError: if the meshes do not fit in memory.
    """
    system, (dl, spacing, order) = part.system, settings.resolution
    lengths: list[list[float]] = torch.linalg.vector_norm(system.cell.detach(), dim=-1).tolist()
    points = sum(math.prod(length / spacing for length in vectors) for vectors in lengths)
    if points > MOST_POINTS:
        where = f"a mesh with points {spacing:.3g} A apart"
        raise ValueError(too_many_points(points, where, len(lengths)))
    sizes = [
        (mesh_size(a / spacing), mesh_size(b / spacing), mesh_size(c / spacing))
        for a, b, c in lengths
    ]
    greens = functools.partial(engine.greens_function, greens=settings.greens)

    def of_one_size(system: System, members: list[int]) -> Sums:
        reach = [max(lengths[i][axis] for i in members) for axis in range(3)]
        extent = [math.floor(r / dl * (1.0 + EDGE_TOLERANCE)) for r in reach]
        dtype, positions = system.positions.dtype, exactly(system.positions)
        reciprocal, volume = reciprocal_vectors(exactly(system.cell))
        if len(members) == 1:
            fractional = reciprocal[0] @ positions.t()
        else:
            fractional = (reciprocal[system.owner] @ positions.unsqueeze(-1)).squeeze(-1)
            fractional = fractional.t().contiguous()
        fractional = wrapped(fractional).to(dtype)
        lattice = Lattice(reciprocal.to(dtype), volume.to(dtype), system.half_height)
        shape = MeshShape(len(members), *sizes[members[0]])
        undone = deconvolution(shape[1:], extent, order, fractional)
        mesh = Mesh(fractional, mesh_weights(lattice, undone, greens), shape, order, reciprocal)
        return sum_on_mesh(system, mesh, engine, compute_potential)

    bare = by_size(system, sizes, of_one_size)
    factors = self_factors(system, settings.sigma)
    return settings.coefficients(True).energies(bare, system.charges, system.owner, factors)


def by_size(
    system: System,
    sizes: list[tuple[int, int, int]],
    of_one_size: Callable[[System, list[int]], Sums],
) -> Sums:
    """Sums and their derivatives of structures that have meshes of these sizes.

    ``of_one_size`` does it for a batch of equal ones, given with their places in ``sizes``.
    """
    groups: dict[tuple[int, int, int], list[int]] = {}
    for structure, size in enumerate(sizes):
        groups.setdefault(size, []).append(structure)
    if len(groups) == 1:
        return of_one_size(system, list(range(len(sizes))))
    energy = system.charges.new_zeros(len(sizes))
    potential: Tensor | None = torch.zeros_like(system.charges)
    for members in groups.values():
        chosen = torch.zeros_like(system.counts, dtype=torch.bool)
        chosen[torch.tensor(members, device=chosen.device)] = True
        part, structures, atoms = select(system, chosen)
        of_part, phi = of_one_size(part, members)
        energy = energy.index_add(0, structures, of_part)
        potential = None if phi is None or potential is None else potential.index_add(0, atoms, phi)
    return energy, potential


@functools.lru_cache(maxsize=1024)
def _smooth_number(at_least: int) -> int:
    """The smallest even number not below ``at_least`` without prime factors above 7."""
    size = max(2, at_least + at_least % 2)
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def mesh_size(at_least: float) -> int:
    """Points of a mesh along an axis: even, for real transforms, and 7-smooth, for fast ones."""
    return _smooth_number(math.ceil(at_least))


class Mesh(NamedTuple):
    """Structures with meshes of one size."""

    #: Where the atoms are in the meshes ``[3, n_atoms]``.
    fractional: Tensor
    #: What the power of each component is multiplied with, what undoes the splines included
    #: ``[n_structures or 1, 2 n1 + 1, 2 n2 + 1, n3 + 1]``.
    weights: Tensor
    shape: MeshShape
    #: Order of the splines.
    order: int
    #: Derivatives of the coordinates, along rows, by places ``[n_structures or 1, 3, 3]`` [1/A].
    axes: Tensor


def sum_on_mesh(system: System, mesh: Mesh, engine: Engine, compute_potential: bool) -> Sums:
    """Sum over the components of a mesh; see :func:`mesh_sum`."""
    if system.n_sources > 1:
        matrices = along_axes(mesh.axes, system.n_sources).to(system.charges.dtype)
        if len(matrices) > 1:
            matrices = matrices.index_select(0, system.owner)
        system = system._replace(charges=turned(system.charges, matrices))
    fractional, weights, shape, order, _ = mesh
    owner = None if shape.n_structures == 1 else system.owner
    own = system.charges.t()
    place: Tensor | None = None
    if fractional.shape[1] >= SORTED_FROM:
        place = _sort_by_place(fractional.detach(), owner, shape)
        fractional, own = fractional.index_select(1, place), own.index_select(1, place)
        owner = None if owner is None else owner[place]
    n1, n2, n3 = weights.shape[1:]
    splines = engine.splines(fractional.detach(), owner, shape, order)
    basis = MeshWaves(splines, (n1 // 2, n2 // 2, n3 - 1), engine.fourier)
    values, derivatives = own.unflatten(0, (system.n_sources, -1)), DERIVATIVES[system.n_sources]
    total, found = expand(values, fractional, basis, weights, compute_potential, derivatives)
    if found is None:
        return total, None
    potential = found.flatten(0, 1)
    if place is not None:
        potential = torch.empty_like(potential).index_copy(1, place, potential)
    if system.n_sources > 1:
        return total, turned(potential.t(), matrices.transpose(1, 2))
    return total, potential.t()


def _sort_by_place(fractional: Tensor, owner: Tensor | None, shape: MeshShape) -> Tensor:
    """Order of the atoms in which those that share mesh points follow one another."""
    bins = [max(1, size // BIN) for size in shape[1:]]
    counts = torch.tensor(bins, device=fractional.device).unsqueeze(1)
    places = ((fractional - torch.floor(fractional)) * counts).to(torch.int64)
    # What lies a little below a whole number is rounded to one.
    x, y, z = torch.minimum(places, counts - 1).unbind(0)
    key = (x * bins[1] + y) * bins[2] + z
    if owner is not None:
        key = key + owner * math.prod(bins)
    return torch.argsort(key)


def mesh_weights(
    lattice: Lattice, undone: Deconvolution, greens: Callable[[Tensor], Tensor]
) -> Tensor:
    """Green's function per volume and per what the splines do to the power of a component."""
    vectors = (2.0 * math.pi * lattice.reciprocal).view(-1, 3, 3, 1, 1, 1)
    numbers = undone.numbers
    k_squared: Tensor | None = None
    for component in range(3):
        k = numbers[0] * vectors[:, 0, component] + numbers[1] * vectors[:, 1, component]
        k = k + numbers[2] * vectors[:, 2, component]
        k_squared = k * k if k_squared is None else torch.addcmul(k_squared, k, k)
    assert k_squared is not None
    values = lattice_greens_function(lattice, k_squared, numbers[2], greens)
    return values * undone.factor / lattice.volume.view(-1, 1, 1, 1)


class Deconvolution(NamedTuple):
    """Components that are kept, and what undoes the splines."""

    #: Numbers along each axis; they can be broadcast to the shape of the components. Negative
    #: numbers follow positive ones, as in a discrete transform.
    numbers: list[Tensor]
    #: A factor of powers ``[2 n1 + 1, 2 n2 + 1, n3 + 1]``. Components with n3 > 0 stand for
    #: their inverses as well, and count twice.
    factor: Tensor


def deconvolution(
    sizes: tuple[int, ...], extent: list[int], order: int, like: Tensor
) -> Deconvolution:
    """Numbers of components up to ``extent`` of meshes of these ``sizes``, and their factors."""
    shapes = [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]
    numbers, factors = [], []
    for axis in range(3):
        n = torch.arange(extent[axis] + 1, device=like.device)
        factor = _inverse_factor(order, sizes[axis], extent[axis]).to(like)
        if axis < 2:
            n = torch.cat([n, n[1:].flip(0).neg()])
            factor = torch.cat([factor, factor[1:].flip(0)])
        else:
            factor = torch.cat([factor[:1], 2.0 * factor[1:]])
        numbers.append(n.to(like.dtype).view(shapes[axis]))
        factors.append(factor.view(shapes[axis]))
    return Deconvolution(numbers, factors[0] * factors[1] * factors[2])


@kept_tables(at_most=256)
def _inverse_factor(order: int, size: int, extent: int) -> Tensor:
    return squared_factor(order, size, extent).reciprocal()
