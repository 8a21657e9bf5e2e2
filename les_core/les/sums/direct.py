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

import math

import torch
from torch import Tensor

from les.sums.bases.adjoint import gather, spread
from les.sums.bases.waves import (
    Waves,
    axis_bases,
    combinations,
    combine,
    separate,
    sums_over_atoms,
    values_at_atoms,
)
from les.sums.cpu.cells import cell_sum
from les.sums.cpu.library import library
from les.sums.cpu.waves import wave_sum
from les.sums.kept import kept
from les.sums.reciprocal.cutoff import GreensFunction, cutoff_ends
from les.sums.reciprocal.greens import periodic_greens_function, slab_greens_function
from les.sums.reciprocal.lattice import exactly, reciprocal_vectors, wrapped


def _k_grid(extent: list[int], like: Tensor) -> tuple[Tensor, Tensor]:
    r"""Numbers of the k-points ``[3, 4 n_points]`` and multiplicities ``[n_points]``.

    The last axis runs first over the signs (s, t) as in ``waves.combine``. The multiplicity
    counts each k-point and its inverse, and halves for every zero component, because sign
    combinations then coincide.
    """
    n1 = torch.arange(extent[0] + 1, dtype=like.dtype, device=like.device)
    n2 = torch.arange(extent[1] + 1, dtype=like.dtype, device=like.device)
    n3 = torch.arange(extent[2] + 1, dtype=like.dtype, device=like.device)
    numbers = torch.cartesian_prod(n1, n2, n3)
    multiplicity = 2.0 * torch.pow(0.5, (numbers == 0.0).sum(dim=1).to(like.dtype))
    # Signs of (n1, n2, n3) for (s, t).
    signs = torch.tensor(
        [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]],
        dtype=like.dtype,
        device=like.device,
    )
    return (signs.t().unsqueeze(2) * numbers.t().unsqueeze(1)).flatten(1), multiplicity


@kept(at_most=4)
def _kept_grid(
    extent: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The grid once more, kept: the next call is likely to have the same size."""
    return _k_grid(list(extent), torch.empty(0, dtype=dtype, device=device))


def reciprocal_sum(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    sigma: float,
    dl: float,
    smooth: bool,
    compute_potential: bool,
    extent: list[int],
    owner: Tensor | None = None,
    half_height: Tensor | None = None,
    captured: bool = False,
) -> tuple[Tensor, Tensor | None]:
    r"""Reciprocal sum :math:`\frac1V\sum_{k\ne0} w(k) e^{-\sigma^2k^2/2}|S(k)|^2/k^2`.

    Complexity O(N M) with one fused multiply-add per pair of atom and real basis function;
    memory O(N M^{1/3} + M), but O(N M^{2/3} + M) where a graph is captured, in TorchScript, and for
    third derivatives with kernels.

    Atoms come in rows of equal length, usually one row per structure.

    Args:
        charges: ``[n_rows, n_atoms, n_channels]``; zero on padding atoms.
        positions: ``[n_rows, n_atoms, 3]`` [A]; anything finite on padding atoms.
        cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors, of either handedness.
        sigma: width of the Gaussian charges [A].
        dl: resolution, ``k_max = 2 pi / dl`` [A].
        smooth: taper the sum towards ``k_max`` (see ``cutoff.cutoff_weight``).
        compute_potential: also return the derivative with respect to ``charges``.
        extent: largest :math:`|n_a|` along each lattice vector, as of ``lattice.grid_extent``.
        owner: structure of each row ``[n_rows]``, where structures have several rows.
        half_height: where the kernels of slabs end ``[n_structures]`` [A], 0 for structures with
            three periodic axes (see ``slab.slab_cells``); without it, all are such.
        captured: only operations of torch, for a graph that is being captured.

    Returns:
        Sum per structure ``[n_structures]`` and its derivative with respect to the charges,
        shaped like ``charges`` (or ``None``). The caller multiplies both by ``2 pi k_e``.
    """
    if not torch.jit.is_scripting() and not captured:
        return _evaluate(
            charges,
            positions,
            cell,
            sigma,
            dl,
            smooth,
            compute_potential,
            extent,
            half_height,
        )
    reciprocal, volume = reciprocal_vectors(exactly(cell))
    numbers, multiplicity = _k_grid(extent, charges)
    kernel = _weights(
        reciprocal.to(charges.dtype),
        volume.to(charges.dtype),
        numbers,
        multiplicity,
        sigma,
        dl,
        smooth,
        extent,
        half_height,
        True,
    )
    to_fractional = reciprocal.transpose(1, 2)
    if owner is not None:
        to_fractional = to_fractional.index_select(0, owner)
    positions = exactly(positions)
    if owner is None:  # as `lattice.from_first_atom`
        positions = positions - positions[:, :1].detach()
    fractional = wrapped(positions @ to_fractional).to(charges.dtype)
    x, y, z = axis_bases(fractional, extent)
    sums = sums_over_atoms(charges, x, y, z)
    if owner is not None:
        shape = [sums.shape[0], cell.shape[0]] + list(sums.shape[2:])
        sums = sums.new_zeros(shape).index_add(1, owner, sums)
    structure_factor = combine(sums, combinations(charges))
    total = _energy(structure_factor, kernel)
    if not compute_potential:
        return total, None
    sums = separate(2.0 * kernel.unsqueeze(2) * structure_factor, extent, combinations(charges))
    if owner is not None:
        sums = sums.index_select(1, owner)
    return total, values_at_atoms(sums, x, y, z)


def _weights(
    reciprocal: Tensor,
    volume: Tensor,
    numbers: Tensor,
    multiplicity: Tensor,
    sigma: float,
    dl: float,
    smooth: bool,
    extent: list[int],
    half_height: Tensor | None,
    captured: bool,
) -> Tensor:
    """Green's function per volume ``[n_structures, 4, n_points]``, of the k-grid's k-points."""
    # Components first: torch is slow with many rows of three.
    k = (2.0 * math.pi * reciprocal).transpose(1, 2).reshape(-1, 3) @ numbers
    k_squared = k.view(-1, 3, 4, multiplicity.shape[0]).square().sum(dim=1)
    kernel = periodic_greens_function(k_squared, sigma, 2.0 * math.pi / dl, smooth, captured)
    if half_height is not None:
        # Along the third vector, which is the normal.
        n = torch.arange(extent[2] + 1, dtype=kernel.dtype, device=kernel.device)
        length = torch.linalg.vector_norm(reciprocal[:, 2], dim=1).view(-1, 1, 1, 1)
        grid = k_squared.unflatten(2, (-1, extent[2] + 1))
        kernel = slab_greens_function(
            kernel.view_as(grid),
            grid,
            grid[..., :1],
            2.0 * math.pi * length * n,
            half_height.view(-1, 1, 1, 1),
        ).flatten(2)
    return kernel * multiplicity / volume.view(-1, 1, 1)


def _energy(structure_factor: Tensor, kernel: Tensor) -> Tensor:
    power = structure_factor.square().sum(dim=3).sum(dim=0)
    return (kernel * power).flatten(1).sum(dim=1)


@torch.jit.unused
def _evaluate(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    sigma: float,
    dl: float,
    smooth: bool,
    compute_potential: bool,
    extent: list[int],
    half_height: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """:func:`reciprocal_sum` for one row per structure, by kernels where there are some."""
    numbers = (extent[0], extent[1], extent[2])
    compiled = library(charges.device, charges.dtype)
    if compiled is not None and half_height is None:

        def plain(q: Tensor, r: Tensor, a: Tensor) -> Tensor:
            q = q.transpose(1, 2)
            return reciprocal_sum(q, r, a, sigma, dl, smooth, False, extent, captured=True)[0]

        greens = GreensFunction(sigma, *cutoff_ends(2.0 * math.pi / dl, smooth))
        q = charges.transpose(1, 2)
        total, potential = cell_sum(compiled, q, positions, cell, numbers, greens, plain)
        return total, potential.transpose(1, 2) if compute_potential else None

    reciprocal, volume = reciprocal_vectors(exactly(cell))
    positions = exactly(positions)
    # As `lattice.from_first_atom`.
    fractional = (positions - positions[:, :1].detach()) @ reciprocal.transpose(1, 2)
    fractional = wrapped(fractional).to(charges.dtype)
    reciprocal, volume = reciprocal.to(charges.dtype), volume.to(charges.dtype)
    grid = _kept_grid(numbers, charges.dtype, charges.device)
    kernel = _weights(reciprocal, volume, *grid, sigma, dl, smooth, extent, half_height, False)
    if compiled is not None:

        def of_coordinates(q: Tensor, s: Tensor, k: Tensor) -> Tensor:
            sums = sums_over_atoms(q.transpose(1, 2), *axis_bases(s, extent))
            return _energy(combine(sums, combinations(q)), k)

        q = charges.transpose(1, 2)
        total, potential = wave_sum(compiled, q, fractional, kernel, numbers, of_coordinates)
        return total, potential.transpose(1, 2) if compute_potential else None

    values, places = charges.permute(2, 0, 1).unsqueeze(0), fractional.permute(2, 0, 1)
    waves = Waves(fractional.detach(), numbers)
    structure_factor = spread(values, places, waves)
    total = _energy(structure_factor, kernel)
    if not compute_potential:
        return total, None
    potential = gather(2.0 * kernel.unsqueeze(2) * structure_factor, places, waves)
    return total, potential.squeeze(0).permute(1, 2, 0)
