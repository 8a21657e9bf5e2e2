"""Structures of different size as rectangular arrays, without a loop over structures.

A batch becomes ``[n_rows, width, ...]``; the slots left over have no charge. Usually each
structure is a row as wide as the largest one, and structures of very different size are
first grouped, so that little is computed for nothing. Where sizes must not decide about
shapes (see ``traceable``), rows have a fixed width and a structure takes several.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Pairs of slots per pair of atoms above which structures are grouped by size.
MAXIMUM_WASTE = 4.0

#: Slots left over are this far apart along (1, 1, 1), and from the origin [A], so that no two
#: of them are at the same place, nor where an atom is likely to be.
SPREAD = 1234.567


def group_structures(counts: Tensor, periodic: Tensor) -> Tensor:
    """Groups of structures to be packed together, ``[n_structures]``.

    Periodic structures have odd, open ones even numbers; sizes within a factor of two are
    together.

    Args:
        counts: number of atoms of each structure.
        periodic: whether it is periodic.
    """
    sizes = torch.ceil(torch.log2(counts.clamp(min=1).to(torch.float32)))
    return 2 * sizes.to(torch.long) + periodic.to(torch.long)


def is_wasteful(
    width: int, squares: float, n_structures: int, maximum_waste: float = MAXIMUM_WASTE
) -> bool:
    """Whether ``width`` slots for each structure are far more than are filled.

    Args:
        width: number of atoms of the largest structure.
        squares: sum of the squares of all numbers of atoms.
        n_structures: number of structures.
        maximum_waste: acceptable number of pairs of slots per pair of atoms.
    """
    return width * width * n_structures > maximum_waste * squares


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
