r"""Open boundaries on a mesh: the pairs of :mod:`les.sums.pairs`, for structures with many atoms.

The charges are spread over a mesh as in :mod:`les.sums.mesh`, and the mesh is convolved with the
interaction of Gaussian charges, :math:`\mathrm{erf}(r/\sqrt2\sigma)/r`, at its points. The mesh is
more than twice as large as the structure, so that a discrete convolution, which is periodic, is
that of a structure without images (R. W. Hockney and J. W. Eastwood, Computer Simulation Using
Particles, 1981). Its points are at multiples of the spacing whatever the structure, and nothing
but their number depends on it: energies do not jump when the size of the mesh changes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.sums.bases.splines import MeshShape
from les.sums.memory import MOST_POINTS
from les.sums.mesh import Mesh, by_size, deconvolution, mesh_size, sum_on_mesh
from les.sums.method import Coefficients, Engine, Part, Settings, Sums
from les.sums.reciprocal.accuracy import MESH_ACCURACY, Resolution, resolve
from les.sums.reciprocal.cutoff import cutoff_ends, cutoff_weight
from les.sums.reciprocal.lattice import exactly
from les.sums.sources import self_factors
from les.sums.system import System
from les.sums.tables import kept_tables

#: Relative error of forces below which pairs are summed. The padding alone makes about 5e-8 of the
#: forces that the charges would have without one another, and more where forces cancel.
FINEST_ACCURACY = 1e-6

#: Space around twice the extent of a structure, in units of the width of the charges: how far
#: the kernel is smeared where it ends.
PADDING = 16.0


def is_compact(system: System, settings: Settings, worth: float) -> Tensor:
    """Structures whose box is small enough for a mesh to fit and pay, ``[n_structures]``.

    None where the resolution is finer than ``FINEST_ACCURACY`` needs.

    Both sums are the same within their accuracy, so that an atom which leaves changes nothing.

    Args:
        system: open structures, and others.
        settings: of the sum.
        worth: points per squared number of atoms up to which a mesh pays.
    """
    finest = resolve(settings.sigma, smooth=True, accuracy=FINEST_ACCURACY)
    if settings.dl < finest.dl:
        return torch.zeros_like(system.counts, dtype=torch.bool)
    first, last = _ends(system)
    spacing = _resolution(settings).spacing
    sizes = (2.0 * (last - first) + PADDING * settings.sigma) / spacing
    most = worth * system.counts.to(sizes.dtype) ** 2
    return sizes.prod(dim=1) <= most.clamp(max=MOST_POINTS)


def open_mesh_sum(part: Part, settings: Settings, engine: Engine, compute_potential: bool) -> Sums:
    r"""Energies of :math:`\sum_{i<j} q_i q_j\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}`.

    With relative errors of forces below ``accuracy.MESH_ACCURACY``, or finer. Complexity
    O(N + M log M) for a mesh of M points, which grows with the box around the structure.

    Args:
        part: open structures, which :func:`is_compact` finds so; their cells are not used.
        settings: of the sum; its resolution counts if it is finer than needed.
        engine: who does the loops.
        compute_potential: also return the derivative with respect to the charges.

    Returns:
        What :func:`les.sums.mesh.mesh_sum` returns.
    """
    system, sigma, resolution = part.system, settings.sigma, _resolution(settings)
    h, around = resolution.spacing, PADDING * sigma / resolution.spacing
    first, last = _ends(system)
    first = torch.floor(first / h)
    spans: list[list[float]] = (last / h - first).tolist()
    sizes = [
        (mesh_size(2.0 * a + around), mesh_size(2.0 * b + around), mesh_size(2.0 * c + around))
        for a, b, c in spans
    ]

    def of_one_size(some: System, members: list[int]) -> Sums:
        size = sizes[members[0]]
        # Whole points, so that nothing depends on where the mesh begins.
        start = first[torch.tensor(members, device=first.device)][some.owner]
        points = torch.tensor(size, device=first.device).unsqueeze(1)
        fractional = ((exactly(some.positions) / h - start).t() / points).to(some.positions.dtype)
        # There is no float64 in Metal.
        device = start.device if start.device.type != "mps" else torch.device("cpu")
        weights = _weights(size, sigma, resolution, device).to(some.positions)
        axes = torch.diag(1.0 / (h * points.flatten().to(weights.dtype))).unsqueeze(0)
        mesh = Mesh(fractional, weights, MeshShape(len(members), *size), resolution.order, axes)
        return sum_on_mesh(some, mesh, engine, compute_potential)

    bare = by_size(system, sizes, of_one_size)
    prefactor, of_squares = settings.coefficients(False)
    # The mesh has the interaction of each charge with itself.
    of_squares = of_squares - prefactor / (sigma * math.sqrt(2.0 * math.pi))
    coefficients = Coefficients(prefactor, of_squares)
    factors = self_factors(system, sigma)
    return coefficients.energies(bare, system.charges, system.owner, factors)


def _resolution(settings: Settings) -> Resolution:
    own, needed = settings.resolution, resolve(settings.sigma, accuracy=MESH_ACCURACY)
    return own if own.dl < needed.dl and own.spacing < needed.spacing else needed


def _ends(system: System) -> tuple[Tensor, Tensor]:
    """Smallest and largest coordinates in each structure ``[n_structures, 3]``."""
    positions, owners = exactly(system.positions.detach()), system.owner.unsqueeze(1).expand(-1, 3)
    nothing = positions.new_zeros(system.counts.shape[0], 3)
    return (
        nothing.scatter_reduce(0, owners, positions, "amin", include_self=False),
        nothing.scatter_reduce(0, owners, positions, "amax", include_self=False),
    )


def _fold(x: Tensor, sigma: float) -> Tensor:
    """Distances ``x`` along an axis, from 0 to the farthest one, where they stop growing.

    The kernel is periodic: where it meets its image it would have a kink, which a finite number
    of components smears out. Beyond all distances of atoms it may be anything smooth; here
    the first derivatives that do not vanish or agree are the fourth and fifth.
    """
    transition = 0.5 * PADDING * sigma
    start = x[-1] - transition
    t = ((x - start) / transition).clamp(min=0.0)
    return torch.minimum(x, start) + transition * (t - t**4 / 2.0 + t**5 / 5.0)


@kept_tables(at_most=2)
def _weights(
    sizes: tuple[int, int, int], sigma: float, resolution: Resolution, device: torch.device
) -> Tensor:
    """Transform of the interaction at the points, ``[1, 2 n1 + 1, 2 n2 + 1, n3 + 1]``, float64."""
    h, dl = resolution.spacing, resolution.dl
    extent = [math.floor(size * h / dl) for size in sizes]
    exact = torch.empty(0, dtype=torch.float64, device=device)
    squared = exact.new_zeros(1)
    for axis, size in enumerate(sizes):
        x = _fold(h * torch.arange(size // 2 + 1, dtype=exact.dtype, device=device), sigma)
        squared = squared + x.square().view([-1 if other == axis else 1 for other in range(3)])
    distance = squared.sqrt_().div_(math.sqrt(2.0) * sigma)
    kernel = torch.erf(distance).div_(distance).div_(math.sqrt(2.0) * sigma)
    kernel[0, 0, 0] = math.sqrt(2.0 / math.pi) / sigma

    # It is even along each axis: cosines of half the points.
    for size, reach in zip(sizes, extent, strict=True):
        points = torch.arange(size // 2 + 1, dtype=exact.dtype, device=device)
        n = torch.arange(reach + 1, dtype=exact.dtype, device=device)
        weights = torch.full_like(points, 2.0)
        weights[0] = weights[-1] = 1.0
        cosines = torch.cos(2.0 * math.pi / size * torch.outer(points, n)) * weights.unsqueeze(1)
        kernel = torch.tensordot(kernel, cosines, dims=([0], [0]))  # the axes take turns
    numbers, factor = deconvolution(sizes, extent, resolution.order, exact)
    kernel = torch.cat([kernel, kernel[1:].flip(0)], dim=0)
    kernel = torch.cat([kernel, kernel[:, 1:].flip(1)], dim=1)
    k_squared = sum(
        (2.0 * math.pi / (size * h) * n) ** 2 for size, n in zip(sizes, numbers, strict=True)
    )
    assert isinstance(k_squared, Tensor)
    weight = cutoff_weight(k_squared, *cutoff_ends(2.0 * math.pi / dl, smooth=True))
    return (0.5 / math.prod(sizes) * kernel * factor * weight).unsqueeze(0)
