"""The few numbers that decide how a batch is summed, with one transfer from its device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.checks import (
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
from les.sums.reciprocal.lattice import grid_reach
from les.sums.system import Given
from les.sums.vectorised import refuse_vectorised


class Numbers(NamedTuple):
    """What is found in the values of the arguments, before it is known whether they are right."""

    #: How many mistakes there are in the order of atoms and in periodic axes.
    mistakes: float
    #: Number of atoms of the largest open structure, and of the largest periodic one.
    largest_open: float
    largest_periodic: float
    #: Sum of the squared numbers of atoms.
    squares: float
    n_periodic: float
    n_slabs: float
    #: Largest positions, charges and cells in size; not finite if any of them is not.
    position: float
    charge: float
    edge: float
    #: How far the k-grid of all periodic structures reaches along each lattice vector.
    reach_a: float
    reach_b: float
    reach_c: float


class Look(NamedTuple):
    """Results of looking at the arguments."""

    #: Number of atoms of each structure; which are periodic, slabs included; which are slabs.
    counts: Tensor
    periodic: Tensor
    slab: Tensor
    numbers: Numbers


class Facts(NamedTuple):
    """What decides about methods and shapes; see :class:`Look` and :class:`Numbers`."""

    counts: Tensor
    periodic: Tensor
    largest_open: int
    largest_periodic: int
    squares: float
    n_periodic: int
    n_slabs: int
    #: Largest numbers of the k-grid that all periodic structures fit in.
    extent: list[int]


def survey(given: Given, dl: float, look: Callable[[Given, float], Look]) -> Facts:
    """Check the arguments of ``les.Ewald`` and look at their values, all at once.

    One transfer from the device, as each makes it idle.

    Args:
        given: the arguments.
        dl: resolution of the periodic sum [A].
        look: looks at the values, as :func:`look_at` does.

    Raises:
        ValueError, TypeError: as ``les.Ewald``.
    """
    charges, positions, cell, batch, pbc = given
    if positions.is_meta:
        raise ValueError("`positions` must have values, got a tensor on the device meta")
    check_precision(positions)
    check_positions(positions, values=False)
    check_charges("charges", charges, positions, values=False)
    check_cell(cell, positions, values=False)
    n_atoms, n_structures = positions.shape[0], cell.shape[0]
    check_batch(batch, n_atoms, n_structures, positions.device, values=False)
    check_pbc(pbc, cell, values=False)
    refuse_vectorised(charges, positions, cell)
    counts, periodic, _, found = look(given, dl)
    near = found.position < largest_coordinate(positions.dtype)
    fine = near and found.charge < largest_charge() and math.isfinite(found.edge)
    if found.mistakes != 0.0 or not fine:
        check_positions(positions)
        check_charges("charges", charges, positions)
        check_cell(cell, positions)
        check_batch(batch, n_atoms, n_structures, positions.device)
        check_pbc(pbc, cell)
    return Facts(
        counts,
        periodic,
        int(found.largest_open),
        int(found.largest_periodic),
        found.squares,
        int(found.n_periodic),
        int(found.n_slabs),
        # Whatever is infinite is too many for any grid.
        [int(min(reach, 1e18)) for reach in found[-3:]],
    )


def look_at(given: Given, dl: float) -> Look:
    """Look at the values of arguments of :func:`survey`, by operations of torch."""
    charges, positions, cell, batch, pbc = given
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
        counted = torch.stack(
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
        numbers: list[float] = torch.cat([counted.to(exact), real.to(exact)]).tolist()
    return Look(counts, periodic, slab, Numbers(*numbers))
