"""Momenta of atoms without those of a rigid body, and the temperature that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def temperature(atoms: Any) -> float:
    """Twice the kinetic energy for each degree of freedom [K], but for those of a rigid body.

    These are three of a periodic structure, six of a molecule, five of a linear one. Whether the
    structure moves or turns as a whole makes no difference. Where atoms are constrained, it is the
    whole kinetic energy for each degree of freedom that the constraints leave.
    """
    from ase.units import kB

    if atoms.constraints:
        free = max(int(atoms.get_number_of_degrees_of_freedom()), 1)
        return float(2.0 * atoms.get_kinetic_energy() / (kB * free))
    inner = inner_momenta(atoms)
    twice_kinetic = float((inner**2 / atoms.get_masses()[:, None]).sum())
    return twice_kinetic / (kB * max(3 * len(atoms) - rigid_motions(atoms).shape[1], 1))


def inner_momenta(atoms: Any) -> NDArray[np.float64]:
    """Momenta without those of a rigid body ``[n_atoms, 3]``, in the unit of ASE.

    The total momentum is taken out, and of an open structure the angular momentum as well.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    weighted = (atoms.get_momenta() / roots).ravel()
    basis = rigid_motions(atoms)
    inner: NDArray[np.float64] = weighted - basis @ (basis.T @ weighted)
    return inner.reshape(-1, 3) * roots


def rigid_motions(atoms: Any) -> NDArray[np.float64]:
    """An orthonormal basis of how a structure moves as a whole ``[3 n_atoms, n_motions]``.

    Coordinates are weighted by the square roots of masses. There are three translations, and of an
    open structure three rotations, two of a linear one and none of an atom.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    rigid = [(roots * axis).ravel() for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        rigid += [(roots * np.cross(axis, arms)).ravel() for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=False)
    return left[:, sizes > 1e-6 * sizes.max()]
