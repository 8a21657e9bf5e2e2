"""Structures of different size as rectangular arrays, without a loop over structures.

A batch becomes ``[n_rows, width, ...]``; the slots left over have no charge. Usually each
structure is a row as wide as the largest one; those of very different size are no rows of one
array (see ``plan``), so that little is computed for nothing. Where sizes must not decide about
shapes (see ``plain``), rows have a fixed width and a structure takes several.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.system import System

#: Slots left over are this far apart along (1, 1, 1), and from the origin [A], so that no two
#: of them are at the same place, nor where an atom is likely to be.
SPREAD = 1234.567


class Rows(NamedTuple):
    """Charges and positions, one row of atoms per structure."""

    #: ``[n_structures, n_channels, width]`` [e], zero where no atom is.
    charges: Tensor
    #: ``[n_structures, width, 3]`` [A].
    positions: Tensor
    #: Slots that the atoms are in ``[n_atoms]``; ``None`` if they fill all, in their order.
    slots: Tensor | None


def in_rows(system: System, width: int) -> Rows:
    """Structures with up to ``width`` atoms as rectangular arrays."""
    n_structures = system.counts.shape[0]
    if system.charges.shape[0] == n_structures * width:
        charges = system.charges.view(n_structures, width, -1)
        positions, slots = system.positions.view(n_structures, width, 3), None
    else:
        first_row = first_rows(system.counts, width)
        slots = assign_slots(system.owner, system.counts, first_row, width)
        charges = pack_charges(system.charges, slots, n_structures, width)
        positions = pack_positions(system.positions, slots, n_structures, width)
    return Rows(charges.transpose(1, 2), positions, slots)


def out_of_rows(values: Tensor, slots: Tensor | None) -> Tensor:
    """Values of the atoms ``[n_atoms, n]`` from those of rows ``[n_structures, n, width]``."""
    values = values.transpose(1, 2).flatten(0, 1)
    return values if slots is None else values.index_select(0, slots)


def first_rows(counts: Tensor, width: int) -> Tensor:
    """First row of each structure ``[n_structures]``; a structure has at least one.

    Args:
        counts: number of atoms of each structure.
        width: number of slots of a row.
    """
    rows = torch.div(counts + (width - 1), width, rounding_mode="floor").clamp(min=1)
    return torch.cumsum(rows, dim=0) - rows


def assign_slots(batch: Tensor, counts: Tensor, first_row: Tensor, width: int) -> Tensor:
    """Slot of each atom in the flattened rectangular array, ``[n_atoms]``.

    Args:
        batch: structure of each atom ``[n_atoms]``, in ascending order.
        counts: number of atoms of each structure.
        first_row: first row of each structure.
        width: number of slots of a row.
    """
    starts = torch.cumsum(counts, dim=0) - counts
    atoms = torch.arange(batch.shape[0], device=batch.device)
    return atoms + (first_row * width - starts)[batch]


def pack_charges(charges: Tensor, slots: Tensor, n_rows: int, width: int) -> Tensor:
    """``[n_rows, width, n_channels]`` of ``charges [n_atoms, n_channels]``."""
    packed = charges.new_zeros([n_rows * width, charges.shape[1]])
    return packed.index_copy(0, slots, charges).view(n_rows, width, charges.shape[1])


def pack_positions(
    positions: Tensor, slots: Tensor, n_rows: int, width: int, spread: float = SPREAD
) -> Tensor:
    """``[n_rows, width, 3]`` of ``positions [n_atoms, 3]``."""
    places = spread * torch.arange(1, width + 1, dtype=positions.dtype, device=positions.device)
    packed = places.repeat(n_rows).unsqueeze(-1).repeat(1, 3)
    return packed.index_copy(0, slots, positions).view(n_rows, width, 3)
