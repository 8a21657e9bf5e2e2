r"""The sum in operations of torch alone: its specification, and what captured graphs are made of.

``les.Ewald`` looks at the values of its input: it validates them, takes the k-grid from the
cells and shapes arrays after the number of atoms of each structure. A captured graph cannot, nor
can it call operators of ours where there is no Python, as in LAMMPS. :func:`traceable_potential`
is given boundary condition and k-grid, packs structures into rows of fixed width, and asserts
inside the graph what must hold. Nothing here has a derivative of its own, so that torch
differentiates it as often as needed: beyond their second derivatives kernels are differentiated as
:func:`periodic_sum` and :func:`wave_energies`.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.wave_products import products_of_two
from les.sums.bases.waves import axis_bases, combinations, combine, separate, weighted_power
from les.sums.checks import has_volume, largest_charge, largest_coordinate
from les.sums.method import Cells, Settings, Sums
from les.sums.packing import assign_slots, first_rows, pack_charges, pack_positions
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.reciprocal.greens import periodic_greens_function
from les.sums.reciprocal.grid import grid_weights, k_grid
from les.sums.reciprocal.lattice import (
    Lattice,
    exactly,
    from_first_atom,
    grid_reach,
    reciprocal_vectors,
    wrapped,
)

#: Boundary conditions of the structures of a batch.
BOUNDARIES = ("periodic", "open", "mixed")

#: Slots of a row. A structure wastes half a row on average; each row costs as much memory as
#: the structure factors of a structure.
ROW_WIDTH = 64


class Bounds(NamedTuple):
    """What a graph is captured for."""

    #: One of :data:`BOUNDARIES`.
    boundary: str
    #: Largest :math:`|n_a|` of the k-grid along each lattice vector.
    extent: list[int]
    #: Which structures are periodic ``[n_structures]``, boolean, where ``boundary`` is
    #: ``"mixed"``; without it, those whose cell has a volume.
    periodic: Tensor | None = None
    #: Where the Green's functions of slabs end ``[n_structures]`` [A], 0 for other structures;
    #: cells and positions of slabs are those of ``slab.slab_cells`` then.
    half_height: Tensor | None = None


def traceable_potential(
    settings: Settings,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    bounds: Bounds,
) -> Tensor:
    r"""Potential at the charges; the energy of a structure is :math:`\frac12\sum_i q_i\phi_i`.

    Args:
        settings: of the sum.
        charges: ``[n_atoms]`` [e].
        positions: ``[n_atoms, 3]`` [A].
        cell: ``[n_structures, 3, 3]`` [A]; not used where open.
        batch: structure of each atom ``[n_atoms]``, ascending; ``None`` for one structure.
        bounds: boundary conditions and k-grid.

    Returns:
        ``[n_atoms]`` [eV/e].

    Raises:
        ValueError: for an unknown boundary condition.
        RuntimeError: when it runs, also inside a compiled graph, if a cell needs a larger
            grid, a periodic structure has no cell, ``batch`` is not ascending, or values are not
            finite or so large that results mean nothing.
    """
    boundary, _, periodic, _ = bounds
    if boundary not in BOUNDARIES:
        raise ValueError(f"`boundary` must be one of {BOUNDARIES}, got {boundary!r}")
    owner = batch
    if batch is None:
        owner = torch.zeros_like(positions[:, 0], dtype=torch.long)
    else:
        # Slices of n - 1 atoms would bind a graph to more than two atoms.
        ascending = (torch.cummax(batch, 0).values == batch).all()
        torch._assert_async(ascending, "`batch` must be in ascending order")
    assert owner is not None
    # Whatever is no number is not below anything, either.
    most = largest_coordinate(positions.dtype)
    sound = (positions.abs() < most).all() & (charges.abs() < largest_charge()).all()
    torch._assert_async(
        sound,
        f"`positions` must be finite and within {most:g} A of the origin, charges below "
        f"{largest_charge():g} e in size",
    )
    if boundary == "open":
        return _open(settings, charges, positions, owner)
    if boundary == "periodic":
        torch._assert_async(has_volume(cell).all(), "a periodic structure has no cell")
        return _periodic(settings, charges, positions, cell, batch, bounds)
    if periodic is None:
        periodic = has_volume(cell)
    torch._assert_async((has_volume(cell) | ~periodic).all(), "a periodic structure has no cell")
    unit_cell = torch.eye(3, dtype=cell.dtype, device=cell.device)
    safe_cell = torch.where(periodic.view(-1, 1, 1), cell, unit_cell)
    is_periodic = periodic[owner]
    nothing = torch.zeros_like(charges)
    # Charges of the other kind are zero: every structure is in both sums and counts in one.
    in_cells = torch.where(is_periodic, charges, nothing)
    in_vacuum = torch.where(is_periodic, nothing, charges)
    return torch.where(
        is_periodic,
        _periodic(settings, in_cells, positions, safe_cell, batch, bounds),
        _open(settings, in_vacuum, positions, owner),
    )


def _open(settings: Settings, charges: Tensor, positions: Tensor, batch: Tensor) -> Tensor:
    prefactor, self_coefficient = settings.coefficients(False)
    potential = open_potential(charges.unsqueeze(-1), positions, batch, settings.sigma)
    return prefactor * potential.squeeze(-1) + 2.0 * self_coefficient * charges


def _periodic(
    settings: Settings,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    bounds: Bounds,
) -> Tensor:
    extent = bounds.extent
    dl, greens = settings.dl, settings.greens
    largest = torch.tensor(extent, dtype=cell.dtype, device=cell.device)
    torch._assert_async(
        (grid_reach(cell, dl) < largest + 1.0).all(),
        "a cell is too large for the k-grid of this LES model, which does lattice vectors below "
        f"{[round(dl * (n + 1), 2) for n in extent]} A: build it with a larger `max_cell`",
    )
    prefactor, self_coefficient = settings.coefficients(True)
    numbers = (extent[0], extent[1], extent[2])
    owner = slots = None
    if batch is None:
        q, r = charges.view(1, 1, -1), positions.unsqueeze(0)
    else:
        n_structures = cell.shape[0]
        n_rows = positions.shape[0] // ROW_WIDTH + n_structures
        counts = torch.zeros_like(cell[:, 0, 0], dtype=torch.long)
        counts = counts.index_add(0, batch, torch.ones_like(batch))
        first_row = first_rows(counts, ROW_WIDTH)
        positions = from_first_atom(positions, batch, counts)
        rows = torch.arange(n_rows, device=batch.device)
        owner = (rows.unsqueeze(1) >= first_row).sum(dim=1) - 1
        slots = assign_slots(batch, counts, first_row, ROW_WIDTH)
        q = pack_charges(charges.unsqueeze(-1), slots, n_rows, ROW_WIDTH).transpose(1, 2)
        r = pack_positions(positions, slots, n_rows, ROW_WIDTH)
    cells = Cells(q, r, cell, bounds.half_height, numbers)
    _, potential = periodic_sum(cells, greens, True, owner)
    assert potential is not None
    potential = potential.flatten()
    if slots is not None:
        potential = potential.index_select(0, slots)
    return prefactor * potential + 2.0 * self_coefficient * charges


def periodic_sum(
    cells: Cells, greens: GreensFunction, compute_potential: bool, owner: Tensor | None = None
) -> Sums:
    """The sum of ``direct``, which structures may have several rows for.

    Memory O(N M^{2/3} + M).

    Args:
        cells: charges; those of a structure with several rows are relative to its first atom.
        greens: width of the charges, and the cutoff.
        compute_potential: also return the derivative with respect to the charges.
        owner: structure of each row ``[n_rows]``, where structures have several rows.
    """
    charges, positions, cell, half_height, extent, _ = cells
    reciprocal, volume = reciprocal_vectors(exactly(cell))
    lattice = Lattice(reciprocal.to(charges.dtype), volume.to(charges.dtype), half_height)
    greens_function = functools.partial(periodic_greens_function, greens=greens)
    weights = grid_weights(lattice, k_grid(extent, charges), greens_function)
    to_fractional = reciprocal.transpose(1, 2)
    positions = exactly(positions)
    if owner is None:  # as `lattice.from_first_atom`
        positions = positions - positions[:, :1].detach()
    else:
        to_fractional = to_fractional.index_select(0, owner)
    fractional = wrapped(positions @ to_fractional).to(charges.dtype)
    x, y, z = axis_bases(fractional, list(extent))
    sums = sums_over_atoms(charges.transpose(1, 2), x, y, z)
    if owner is not None:
        shape = [sums.shape[0], cell.shape[0]] + list(sums.shape[2:])
        sums = sums.new_zeros(shape).index_add(1, owner, sums)
    signs = combinations(charges)
    structure_factors = combine(sums, signs)
    total = weighted_power(structure_factors, weights)
    if not compute_potential:
        return total, None
    sums = separate(2.0 * weights.unsqueeze(2) * structure_factors, list(extent), signs)
    if owner is not None:
        sums = sums.index_select(1, owner)
    return total, values_at_atoms(sums, x, y, z).transpose(1, 2)


def wave_energies(
    charges: Tensor, fractional: Tensor, weights: Tensor, extent: tuple[int, int, int]
) -> Tensor:
    """Energies ``[n_structures]`` of ``direct.sum_over_waves``."""
    sums = sums_over_atoms(charges.transpose(1, 2), *axis_bases(fractional, list(extent)))
    return weighted_power(combine(sums, combinations(charges)), weights)


def sums_over_atoms(charges: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Sums over atoms of products of axes ``[n_channels, n_rows, 2 n1, 2 n2, 2 n3]``.

    Of ``charges [n_rows, n_atoms, n_channels]``; what ``WaveProducts.spread`` does.
    """
    n_rows, _, n_channels = charges.shape
    charged_z = (charges.unsqueeze(-1) * z.unsqueeze(-2)).flatten(2)
    sums = products_of_two(x, y).transpose(1, 2) @ charged_z
    sums = sums.view(n_rows, x.shape[-1], y.shape[-1], n_channels, z.shape[-1])
    return sums.permute(3, 0, 1, 2, 4)


def values_at_atoms(components: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """The transpose of :func:`sums_over_atoms`, ``[n_rows, n_atoms, n_channels]``."""
    n_channels = components.shape[0]
    left = components.permute(1, 2, 3, 0, 4).flatten(1, 2).flatten(2)
    along_z = (products_of_two(x, y) @ left).view(x.shape[0], x.shape[1], n_channels, z.shape[-1])
    return (along_z * z.unsqueeze(-2)).sum(dim=-1)


def open_potential(charges: Tensor, positions: Tensor, batch: Tensor, sigma: float) -> Tensor:
    r"""Derivative of the pair sum with respect to the charges, over all pairs of a batch.

    Pairs of different structures are masked, so the work grows with the square of the whole
    batch: for graphs captured without knowing how many atoms a structure has.

    Args:
        charges: ``[n_atoms, n_channels]``.
        positions: ``[n_atoms, 3]`` [A]; those of a structure all different.
        batch: structure of each atom ``[n_atoms]``.
        sigma: width of the Gaussian charges [A].

    Returns:
        ``[n_atoms, n_channels]``; the caller multiplies it by ``k_e``.

    Raises:
        RuntimeError: when it runs, also inside a graph, if two atoms of a structure are at
            the same place.
    """
    unit = math.sqrt(2.0) * sigma
    atoms = torch.arange(positions.shape[0], device=positions.device)
    pair = (batch.unsqueeze(0) == batch.unsqueeze(1)) & (atoms.unsqueeze(0) != atoms.unsqueeze(1))
    # Distances before they are scaled, so that where the structure is does not matter.
    squared = (positions.unsqueeze(0) - positions.unsqueeze(1)).square().sum(dim=-1) / unit**2
    torch._assert_async(
        ((squared > 0.0) | ~pair).all(), "two atoms of an open structure are at the same place"
    )
    # Masked pairs may be at the same place: no infinity may enter the derivatives.
    distance = torch.where(pair, squared, torch.ones_like(squared)).sqrt()
    kernel = torch.where(pair, torch.erf(distance) / distance, torch.zeros_like(distance))
    return kernel @ charges / unit
