r"""Separable direct sum over k-points, for a batch of periodic structures at once.

With :math:`\mathbf k = 2\pi \mathbf n A^{-T}` the phase of every atom-k pair factorises
over the three lattice directions, :math:`\mathbf k\cdot\mathbf r = \sum_a n_a\theta_a` with
:math:`\theta_a = 2\pi s_a` of the fractional coordinates. So only cos and sin of
:math:`n_a\theta_a` are evaluated, O(N M^{1/3}) of them instead of O(N M), and all structure
factors follow from sums over the atoms of their products, by one real matrix product
:math:`T = (X \otimes Y)^T (q Z)` or a compiled kernel. The eight cos/sin combinations of each
:math:`(|n_1|, |n_2|, |n_3|)` are then turned into the real and imaginary parts of the four
k-points that differ by sign and not by inversion, on O(M) data.
"""

from __future__ import annotations

import functools

from torch import Tensor

from les.sums.bases.adjoint import expand
from les.sums.bases.waves import Waves
from les.sums.function import energy_and_gradients, is_differentiated
from les.sums.memory import check_grid
from les.sums.method import Cells, Engine, Part, Settings, Sums, WaveCharges
from les.sums.packed import PackedKernels
from les.sums.packing import in_rows, out_of_rows
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.reciprocal.grid import grid_weights, kept_grid
from les.sums.reciprocal.lattice import Lattice, exactly, grid_extent, reciprocal_vectors, wrapped
from les.sums.sources import DERIVATIVES, along_axes, self_factors, turned


def direct_sum(part: Part, settings: Settings, engine: Engine, compute_potential: bool) -> Sums:
    r"""Energies of :math:`\frac1V\sum_{k\ne0} w(k) e^{-\sigma^2k^2/2}|S(k)|^2/k^2`.

    Complexity O(N M) with one fused multiply-add per pair of atom and real basis function;
    memory O(N M^{1/3} + M), but O(N M^{2/3} + M) for third derivatives with kernels.

    Args:
        part: periodic structures.
        settings: of the sum.
        engine: who does the loops.
        compute_potential: also return the derivative with respect to the charges.

    Returns:
        Energy per structure ``[n_structures]`` [eV], and its derivative with respect to the charges
        ``[n_atoms, n_channels]`` [eV/e] (or ``None``).

    Raises:
        ValueError: if the grid of k-points does not fit in memory.
    """
    system = part.system
    kernels = direct_kernels(part, settings, engine, is_differentiated(system.cell))
    if kernels is not None:
        found = energy_and_gradients(kernels, system.charges, system.positions, system.cell)
        return found[0], found[1] if compute_potential else None
    charges, positions, slots = in_rows(system, part.width)
    extent = _extent(part, settings)
    cells = Cells(charges, positions, system.cell, system.half_height, extent, system.n_sources)
    bare = sum_over_cells(cells, settings.greens, engine, compute_potential)
    factors = self_factors(system, settings.sigma)
    energy, potential = settings.coefficients(True).energies(bare, charges, None, factors)
    return energy, None if potential is None else out_of_rows(potential, slots)


def direct_kernels(
    part: Part, settings: Settings, engine: Engine, of_cell: bool
) -> PackedKernels | None:
    """Kernels for all of :func:`direct_sum` where there are some: not for slabs."""
    if part.system.half_height is not None:
        return None
    extent, coefficients = _extent(part, settings), settings.coefficients(True)
    n_sources = part.system.n_sources
    kernels = engine.cell_kernels(extent, settings.greens, coefficients, of_cell, n_sources)
    return None if kernels is None else PackedKernels(kernels, part)


def _extent(part: Part, settings: Settings) -> tuple[int, int, int]:
    cell = part.system.cell
    extent = part.extent if part.extent is not None else grid_extent(cell, settings.dl)
    check_grid(extent, cell.shape[0], settings.dl)
    return extent[0], extent[1], extent[2]


def sum_over_cells(
    cells: Cells, greens: GreensFunction, engine: Engine, compute_potential: bool
) -> Sums:
    """Sums of charges in rows, by way of their coordinates and of the weights of k-points.

    Returns:
        Bare sums ``[n_structures]``, and their derivatives with respect to the charges
        ``[n_structures, n_channels, n_atoms]`` (or ``None``).
    """
    charges, positions, cell, half_height, extent, n_sources = cells
    reciprocal, volume = reciprocal_vectors(exactly(cell))
    positions = exactly(positions)
    # As `lattice.from_first_atom`.
    fractional = (positions - positions[:, :1].detach()) @ reciprocal.transpose(1, 2)
    fractional = wrapped(fractional).to(charges.dtype)
    lattice = Lattice(reciprocal.to(charges.dtype), volume.to(charges.dtype), half_height)
    grid = kept_grid(extent, charges.dtype, charges.device)
    weights = grid_weights(lattice, grid, functools.partial(engine.greens_function, greens=greens))
    if n_sources == 1:
        return engine.waves(WaveCharges(charges, fractional, extent), weights, compute_potential)
    matrices = along_axes(reciprocal, n_sources).to(charges.dtype)
    waves = WaveCharges(turned(charges, matrices), fractional, extent, n_sources)
    energy, potential = engine.waves(waves, weights, compute_potential)
    return energy, None if potential is None else turned(potential, matrices.transpose(1, 2))


def sum_over_waves(waves: WaveCharges, weights: Tensor, compute_potential: bool) -> Sums:
    r""":math:`\sum_{\mathbf n} W_{\mathbf n}|\sum_i q_ie^{2\pi i\mathbf n\cdot\mathbf s_i}|^2`.

    Args:
        waves: charges and coordinates.
        weights: ``[n_structures, 4, n_points]``, with the signs of ``waves.combine``.
        compute_potential: also return the derivative with respect to the charges.
    """
    charges, fractional, extent, n_sources = waves
    basis = Waves(fractional.detach(), extent)
    places, derivatives = fractional.permute(2, 0, 1), DERIVATIVES[n_sources]
    values = charges.transpose(0, 1).unflatten(0, (n_sources, -1))
    energy, potential = expand(values, places, basis, weights, compute_potential, derivatives)
    return energy, None if potential is None else potential.flatten(0, 1).transpose(0, 1)
