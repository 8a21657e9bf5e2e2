"""The sum as a fixed sequence of tensor operations, for graph capture and compilers.

``les.Ewald`` looks at the values of its input: it validates them, takes the k-grid from the
cells and shapes arrays after the number of atoms of each structure. A captured graph cannot.
Here boundary condition and k-grid are given, structures are packed into rows of fixed width,
and what must hold is asserted inside the graph. The kernels are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.ewald import Ewald
from les.sums.checks import has_volume, largest_charge, largest_coordinate
from les.sums.direct import reciprocal_sum
from les.sums.packing import assign_slots, first_rows, pack_charges, pack_positions
from les.sums.pairs import open_sum_masked
from les.sums.reciprocal.lattice import from_first_atom, grid_reach

#: Boundary conditions of the structures of a batch.
BOUNDARIES = ("periodic", "open", "mixed")

#: Slots of a row. A structure wastes half a row on average; each row costs as much memory as
#: the structure factors of a structure.
ROW_WIDTH = 64


def traceable_potential(
    ewald: Ewald,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    boundary: str,
    extent: list[int],
    periodic: Tensor | None = None,
    half_height: Tensor | None = None,
) -> Tensor:
    r"""Potential at the charges; the energy of a structure is :math:`\frac12\sum_i q_i\phi_i`.

    Args:
        ewald: settings of the sum.
        charges: ``[n_atoms]`` [e].
        positions: ``[n_atoms, 3]`` [A].
        cell: ``[n_structures, 3, 3]`` [A]; not used where open.
        batch: structure of each atom ``[n_atoms]``, ascending; ``None`` for one structure.
        boundary: one of :data:`BOUNDARIES`.
        extent: largest :math:`|n_a|` of the k-grid along each lattice vector.
        periodic: which structures are periodic ``[n_structures]``, boolean, where ``boundary``
            is ``"mixed"``; without it, those whose cell has a volume.
        half_height: where the kernels of slabs end ``[n_structures]`` [A], 0 for other structures;
            ``cell`` and ``positions`` of slabs are those of ``slab.slab_cells`` then.

    Returns:
        ``[n_atoms]`` [eV/e].

    Raises:
        ValueError: for an unknown boundary condition.
        RuntimeError: when it runs, also inside a compiled graph, if a cell needs a larger
            grid, a periodic structure has no cell, ``batch`` is not ascending, or values are not
            finite or so large that results mean nothing.
    """
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
        return _open(ewald, charges, positions, owner)
    if boundary == "periodic":
        torch._assert_async(has_volume(cell).all(), "a periodic structure has no cell")
        return _periodic(ewald, charges, positions, cell, batch, extent, half_height)
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
        _periodic(ewald, in_cells, positions, safe_cell, batch, extent, half_height),
        _open(ewald, in_vacuum, positions, owner),
    )


def _open(ewald: Ewald, charges: Tensor, positions: Tensor, batch: Tensor) -> Tensor:
    prefactor, self_coefficient = ewald.coefficients(False)
    potential = open_sum_masked(charges.unsqueeze(-1), positions, batch, ewald.sigma).squeeze(-1)
    return prefactor * potential + 2.0 * self_coefficient * charges


def _periodic(
    ewald: Ewald,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    extent: list[int],
    half_height: Tensor | None,
) -> Tensor:
    largest = torch.tensor(extent, dtype=cell.dtype, device=cell.device)
    torch._assert_async(
        (grid_reach(cell, ewald.dl) < largest + 1.0).all(),
        "a cell is too large for the k-grid of this LES model, which does lattice vectors below "
        f"{[round(ewald.dl * (n + 1), 2) for n in extent]} A: build it with a larger `max_cell`",
    )
    smooth = ewald.cutoff == "smooth"
    prefactor, self_coefficient = ewald.coefficients(True)
    owner = slots = None
    if batch is None:
        q, r = charges.view(1, -1, 1), positions.unsqueeze(0)
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
        q = pack_charges(charges.unsqueeze(-1), slots, n_rows, ROW_WIDTH)
        r = pack_positions(positions, slots, n_rows, ROW_WIDTH)
    _, potential = reciprocal_sum(
        q, r, cell, ewald.sigma, ewald.dl, smooth, True, extent, owner, half_height, captured=True
    )
    assert potential is not None
    potential = potential.flatten()
    if slots is not None:
        potential = potential.index_select(0, slots)
    return prefactor * potential + 2.0 * self_coefficient * charges
