"""Which atoms of a structure are bonded, by their covalent radii."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Two atoms are bonded up to this much beyond the sum of their covalent radii [A].
TOLERANCE = 0.3


def bonded_pairs(atoms: Any) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Both atoms of all bonds of a structure, each bond from both its ends.

    Two atoms are bonded if their distance is less than the sum of their covalent radii
    (``ase.data.covalent_radii``) and :data:`TOLERANCE`; images of a periodic structure included.

    Args:
        atoms: ``ase.Atoms``, of any periodicity.
    """
    first, second, _ = bond_vectors(atoms)
    return first, second


def bond_vectors(
    atoms: Any,
) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.float64]]:
    """Both atoms of all bonds, as :func:`bonded_pairs`, and vectors from the first to the second.

    Args:
        atoms: ``ase.Atoms``, of any periodicity.

    Returns:
        First and second atoms ``[n_bonds]``, and vectors ``[n_bonds, 3]`` [A], which lead to the
        periodic image that is bonded.
    """
    from ase.neighborlist import natural_cutoffs, neighbor_list

    cutoffs = [radius + TOLERANCE / 2.0 for radius in natural_cutoffs(atoms)]
    first, second, vectors = neighbor_list("ijD", atoms, cutoffs)
    return first, second, vectors
