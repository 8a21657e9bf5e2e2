"""The numbers that decide how a batch is summed, by a compiled kernel."""

from __future__ import annotations

import ctypes

import torch

from les.sums.checks import VOLUME_TOLERANCE
from les.sums.cpu.library import call
from les.sums.reciprocal.cutoff import EDGE_TOLERANCE
from les.sums.survey import Look, Numbers
from les.sums.system import Given


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_channels", "n_structures")),
        *((name, ctypes.c_double) for name in ("dl", "edge_tolerance", "smallest")),
    )


def look_at(compiled: ctypes.CDLL, given: Given, dl: float) -> Look:
    """As ``les.sums.survey.look_at``; ``compiled`` are the kernels that ``library`` returned."""
    charges, positions, cell, _, _ = given
    n_structures = cell.shape[0]
    arrays = [None if array is None else array.contiguous() for array in given]
    counts = torch.zeros(n_structures, dtype=torch.int64, device="cpu")
    flags = torch.empty(2, n_structures, dtype=torch.bool, device="cpu")
    numbers = (ctypes.c_double * len(Numbers._fields))()
    n_channels = charges.shape[1] if charges.dim() == 2 else 1
    task = _Task(
        *(len(positions), n_channels, n_structures), *(dl, EDGE_TOLERANCE, VOLUME_TOLERANCE)
    )
    call(compiled.les_survey, task, *arrays, counts, flags[0], flags[1], numbers)
    return Look(counts, flags[0], flags[1], Numbers(*numbers))
