"""Structures as CHGNet takes them: pymatgen's, in a right-handed lattice that carries pbc."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from pymatgen.core import Lattice, Molecule, Structure

from les.data.atoms import ANY_AXES, check_atoms, spanning_cell


def to_structure(source: Atoms | Structure | Molecule) -> Structure:
    """``source`` as a structure on which CHGNet gives correct results.

    What has no cell, or is periodic along no axis, gets a lattice of unit vectors with pbc
    false, so that fractional coordinates are Cartesian ones. Left-handed cells, for which
    CHGNet gives the stress the wrong sign, are described by the opposite vectors.

    Args:
        source: structure or molecule of ASE or pymatgen; positions and cell in A.

    Raises:
        ValueError: for no atoms, and what ``les.data.atoms.check_atoms`` refuses.
        TypeError: for something else.
    """
    if not isinstance(source, (Atoms, Molecule, Structure)):
        raise TypeError(
            "the structure must be one of ASE or pymatgen (Atoms, Structure, Molecule), got "
            f"{type(source).__name__}"
        )
    if len(source) == 0:
        raise ValueError("the structure must have atoms, got none")
    if isinstance(source, Atoms):
        check_atoms(source, ANY_AXES)
        numbers, positions = source.numbers.tolist(), source.positions
        cell, pbc = complete_cell(spanning_cell(source)), tuple(map(bool, source.pbc))
    elif isinstance(source, Molecule):
        numbers, positions = list(source.atomic_numbers), source.cart_coords
        cell, pbc = np.eye(3), (False, False, False)
    else:
        cell, pbc = source.lattice.matrix, source.lattice.pbc
        if all(pbc) and np.linalg.det(cell) > 0.0:
            return source
        numbers, positions = list(source.atomic_numbers), source.cart_coords
    if not any(pbc):
        cell = np.eye(3)
    elif np.linalg.det(cell) < 0.0:
        cell = -cell
    return Structure(Lattice(cell, pbc=pbc), numbers, positions, coords_are_cartesian=True)
