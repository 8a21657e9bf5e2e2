"""What has to be known of the values of a batch, by a compiled kernel; see ``sums.system``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from les.sums.cpu.library import call
from les.sums.reciprocal.cutoff import EDGE_TOLERANCE

#: How many numbers there are.
N_NUMBERS = 12


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_channels", "n_structures")),
        *((name, ctypes.c_double) for name in ("dl", "edge_tolerance", "smallest")),
    )


def look(
    compiled: ctypes.CDLL,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor | None,
    dl: float,
    smallest: float,
) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Results of ``sums.system.look``, and its arguments.

    ``compiled`` is as of ``library``; ``smallest`` volumes and areas make structures periodic.
    """
    n_structures = cell.shape[0]
    arrays = [charges, positions, cell, batch, pbc]
    given = [None if array is None else array.contiguous() for array in arrays]
    counts = torch.zeros(n_structures, dtype=torch.int64, device="cpu")
    flags = torch.empty(2, n_structures, dtype=torch.bool, device="cpu")
    numbers = (ctypes.c_double * N_NUMBERS)()
    n_channels = charges.shape[1] if charges.dim() == 2 else 1
    task = _Task(len(positions), n_channels, n_structures, dl, EDGE_TOLERANCE, smallest)
    call(compiled.les_survey, task, *given, counts, flags[0], flags[1], numbers)
    return counts, flags[0], flags[1], list(numbers)
