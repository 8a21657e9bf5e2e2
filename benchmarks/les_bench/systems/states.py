"""The charge state of structures, the only thing besides their atoms that a model is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from les.data.bare import bare
from les.data.fragments import FRAGMENT
from les.data.total_charge import TOTAL_CHARGE_NAMES, total_charge


def repeated(atoms: Atoms, repeats: Sequence[int]) -> Atoms:
    """A supercell without labels, of the charge and with the fragments of all its cells.

    Args:
        atoms: the cell.
        repeats: how many of it there are along each of its vectors.
    """
    n_cells = int(np.prod(repeats))
    larger = bare(atoms.repeat(repeats))
    for name in TOTAL_CHARGE_NAMES:
        if name in atoms.info:
            larger.info[name] = n_cells * total_charge(atoms)
    if FRAGMENT in atoms.arrays:
        labels = atoms.arrays[FRAGMENT]
        cell = np.repeat(np.arange(n_cells), len(atoms))
        larger.arrays[FRAGMENT] = np.tile(labels, n_cells) + cell * (np.ptp(labels) + 1)
    return larger
