"""A batch of structures, and what has to be known of its values to sum over it."""

# No postponed annotations: TorchScript does not resolve those of a NamedTuple.

import math
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.checks import (
    VOLUME_TOLERANCE,
    check_batch,
    check_cell,
    check_charges,
    check_pbc,
    check_positions,
    check_precision,
    has_area,
    has_volume,
    largest_charge,
    largest_coordinate,
)
from les.sums.cpu.library import library
from les.sums.cpu.survey import look as native_look
from les.sums.reciprocal.lattice import grid_reach
from les.sums.rows import refuse_vectorised


class Batch(NamedTuple):
    """Gaussian charges, structure after structure."""

    #: ``[n_atoms, n_channels]`` [e].
    charges: Tensor
    #: ``[n_atoms, 3]`` [A].
    positions: Tensor
    #: ``[n_structures, 3, 3]`` [A], rows are lattice vectors.
    cell: Tensor
    #: Structure of each atom ``[n_atoms]``, ascending.
    owner: Tensor
    #: Number of atoms of each structure ``[n_structures]``.
    counts: Tensor
    #: Where the kernels of slabs end ``[n_structures]`` [A], 0 for other structures; ``None`` if
    #: there are no slabs.
    half_height: Tensor | None


class Facts(NamedTuple):
    """What decides about methods and shapes."""

    #: Number of atoms of each structure, and which are periodic, slabs included, and slabs.
    counts: Tensor
    periodic: Tensor
    slab: Tensor
    #: Number of atoms of the largest open structure, and of the largest periodic one.
    largest_open: int
    largest_periodic: int
    #: Sum of the squares of the numbers of atoms.
    squares: float
    n_periodic: int
    n_slabs: int
    #: Of the k-grid that all periodic structures fit in.
    extent: list[int]


def survey(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor | None,
    dl: float,
) -> Facts:
    """Check the arguments of ``les.Ewald`` and look at their values, all at once.

    One transfer from the device, as each makes it idle.

    Raises:
        ValueError, TypeError: as ``les.Ewald``.
    """
    if not torch.jit.is_scripting():
        if positions.is_meta:
            raise ValueError("`positions` must have values, got a tensor on the device meta")
        check_precision(positions)
    check_positions(positions, values=False)
    check_charges("charges", charges, positions, values=False)
    check_cell(cell, positions, values=False)
    n_atoms, n_structures = positions.shape[0], cell.shape[0]
    check_batch(batch, n_atoms, n_structures, positions.device, values=False)
    check_pbc(pbc, cell, values=False)
    found: tuple[Tensor, Tensor, Tensor, list[float]] | None = None
    if not torch.jit.is_scripting():
        refuse_vectorised(charges, positions, cell)
        found = _native_look(charges, positions, cell, batch, pbc, dl)
    if found is None:
        found = look(charges, positions, cell, batch, pbc, dl)
    counts, periodic, slab, numbers = found
    fine = numbers[6] < largest_coordinate(positions.dtype) and numbers[7] < largest_charge()
    if numbers[0] != 0.0 or not fine or not math.isfinite(numbers[8]):
        check_positions(positions)
        check_charges("charges", charges, positions)
        check_cell(cell, positions)
        check_batch(batch, n_atoms, n_structures, positions.device)
        check_pbc(pbc, cell)
    return Facts(
        counts,
        periodic,
        slab,
        int(numbers[1]),
        int(numbers[2]),
        numbers[3],
        int(numbers[4]),
        int(numbers[5]),
        # Whatever is infinite is too many for any grid.
        [int(min(reach, 1e18)) for reach in numbers[9:]],
    )


def look(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor | None,
    dl: float,
) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Look at the values of arguments of :func:`survey`.

    Returns:
        Numbers of atoms, which structures are periodic, which are slabs; and: how many mistakes
        there are in the order of atoms and in periodic axes, atoms of the largest open and of the
        largest periodic structure, sum of the squared numbers of atoms, numbers of periodic
        structures and slabs, the largest number in size of positions, charges and cells, which is
        not finite if any is not, and how far the k-grid reaches along the axes.
    """
    n_atoms, n_structures = positions.shape[0], cell.shape[0]
    with torch.no_grad():
        periodic = has_volume(cell)
        slab = torch.zeros_like(periodic)
        wrong = torch.zeros_like(periodic)
        if pbc is not None:
            n_axes = pbc.sum(dim=1)
            slab = n_axes == 2
            flat = ((n_axes == 3) & ~periodic) | (slab & ~has_area(cell, pbc))
            wrong = flat | (n_axes == 1)
            periodic = n_axes >= 2
        structures = torch.arange(n_structures + 1, device=cell.device)
        if batch is None:
            counts = torch.full_like(structures[1:], n_atoms)
            disorder = wrong.sum()
        else:
            counts = torch.searchsorted(batch.contiguous(), structures).diff()
            disorder = wrong.sum() + (batch[1:] < batch[:-1]).sum() + (counts.sum() != n_atoms)
        in_cells = counts * periodic
        whole = torch.stack(
            [
                disorder,
                (counts - in_cells).max(),
                in_cells.max(),
                (counts * counts).sum(),
                periodic.sum(),
                slab.sum(),
            ]
        )
        # All of them are NaN if an element is.
        largest = cell.abs().max()
        sizes = [torch.zeros_like(largest), torch.zeros_like(largest), largest]
        if n_atoms > 0:
            sizes = [positions.abs().max(), charges.abs().max(), largest]
        reach = (grid_reach(cell, dl) * periodic.unsqueeze(1)).amax(dim=0)
        real = torch.cat([torch.stack(sizes), reach])
        # There is no float64 in Metal; float32 has the numbers of atoms that fit there.
        exact = torch.float32 if cell.device.type == "mps" else torch.float64
        numbers: list[float] = torch.cat([whole.to(exact), real.to(exact)]).tolist()
    return counts, periodic, slab, numbers


@torch.jit.unused
def _native_look(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor | None,
    dl: float,
) -> tuple[Tensor, Tensor, Tensor, list[float]] | None:
    compiled = library(positions.device, positions.dtype)
    # What torch.func wraps has no memory that a kernel could look at.
    if compiled is None or torch._C._are_functorch_transforms_active():
        return None
    return native_look(compiled, charges, positions, cell, batch, pbc, dl, VOLUME_TOLERANCE)


def select(batch: Batch, chosen: Tensor) -> tuple[Batch, Tensor, Tensor]:
    """The structures where ``chosen [n_structures]`` is true, and which atoms and structures."""
    structures = torch.nonzero(chosen).flatten()
    atoms = torch.nonzero(chosen[batch.owner]).flatten()
    half_height = batch.half_height
    part = Batch(
        batch.charges.index_select(0, atoms),
        batch.positions.index_select(0, atoms),
        batch.cell.index_select(0, structures),
        (torch.cumsum(chosen.to(torch.long), dim=0) - 1)[batch.owner[atoms]],
        batch.counts.index_select(0, structures),
        None if half_height is None else half_height.index_select(0, structures),
    )
    return part, structures, atoms
