"""From how many atoms on a mesh is faster, as measured."""

from __future__ import annotations

import math
from typing import NamedTuple

from les.sums.reciprocal.accuracy import Resolution

#: Number of atoms from which on the mesh may be faster than the sum over pairs, and points per
#: squared number of atoms up to which it is; with compiled kernels for pairs, or without.
WORTH_A_MESH = {True: (20000, 0.06), False: (2500, 2.0)}


class DirectCost(NamedTuple):
    """Time of the direct sum in units of that of the mesh per atom and ``Resolution.work``."""

    #: Per atom, other atom and 1 / dl^3 [A^3], at a density of 0.1 atoms / A^3.
    of_pairs: float
    #: How much longer the sequence of operations of a mesh takes, whatever the atoms.
    start: float


#: With compiled kernels, and without. Measured on a CPU (x86, one thread, float64); that of a GPU
#: is not measured.
NATIVE, TORCH, CUDA = DirectCost(4.0, 2e5), DirectCost(6.0, 3e4), DirectCost(6.0, 3e4)


def crossover(resolution: Resolution, cuda: bool, compiled: bool) -> int:
    """Number of atoms from which on the mesh is faster than the direct sum.

    It depends on nothing that changes in a simulation, so that the method does not, either. It
    is between what is best for energies and forces, up to 1.4 times as many atoms, and for
    training on forces, 0.6 to 0.9 times as many.

    Args:
        resolution: of both.
        cuda: whether this is for a GPU.
        compiled: whether there are compiled kernels.
    """
    cost = NATIVE if compiled else CUDA if cuda else TORCH
    # Both take the same time: of_pairs n^2 / dl^3 = work n + start.
    half, by_pairs = 0.5 * resolution.work(), resolution.dl**3 / cost.of_pairs
    return math.ceil((half + math.sqrt(half**2 + cost.start / by_pairs)) * by_pairs)
