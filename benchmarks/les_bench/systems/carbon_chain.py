"""Carbon chains C10H2 and C10H3+: the end of the cation that has two hydrogens.

The charge that the cation has more than the chain is spread over it, and not all at that end.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray


def end_group(atoms: Atoms) -> NDArray[np.bool_] | None:
    """The atoms of a third of the chain, that at the end with two of its three hydrogens.

    Args:
        atoms: a chain, of any orientation.

    Returns:
        ``[n_atoms]``; ``None`` of a chain that has not three hydrogens.
    """
    hydrogens = atoms.numbers == 1
    if hydrogens.sum() != 3:
        return None
    centred = atoms.positions - atoms.positions.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    if (along[hydrogens] > 0).sum() == 2:
        along = -along
    return along < along.min() + np.ptp(along) / 3.0
