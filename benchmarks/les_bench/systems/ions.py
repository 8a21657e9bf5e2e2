"""Ions that keep their charges: a potential that is a formula, and structures with its labels.

Repulsion and dispersion are those of Fumi and Tosi for NaCl (J. Phys. Chem. Solids 25, 31 (1964)).
Mg2+ has those of Na+: it differs from the ion in whose place it is by nothing but its charge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les_bench.systems.coulomb import Array, open_coulomb, pair_forces

#: Atomic number -> charge [e].
CHARGES = {11: 1.0, 12: 2.0, 17: -1.0}
#: Atomic number -> that of the ion whose size it has.
SIZES = {11: 11, 12: 11, 17: 17}
#: Of the pairs ++, +-, -- : strength b c [eV], sum of radii [A], C [eV A^6], D [eV A^8].
REPULSION = 0.2110
HARDNESS = 0.317  # rho [A]
PAIRS = {
    (11, 11): (1.25 * REPULSION, 2.340, 1.05, 0.499),
    (11, 17): (1.00 * REPULSION, 2.755, 6.99, 8.68),
    (17, 17): (0.75 * REPULSION, 3.170, 72.4, 145.4),
}


def charges_of(numbers: NDArray[np.int_]) -> Array:
    """The charges ``[n_atoms]`` [e] of ions."""
    return np.array([CHARGES[int(z)] for z in numbers])


def energy_and_forces(numbers: NDArray[np.int_], positions: Array) -> tuple[float, Array]:
    """Energy [eV] and forces ``[n_atoms, 3]`` [eV/A] of ions without any cell."""
    i, j = np.triu_indices(len(numbers), 1)
    sizes = np.array([SIZES[int(z)] for z in numbers])
    kinds = np.sort(np.stack([sizes[i], sizes[j]], axis=1), axis=1)
    parameters = np.array([PAIRS[int(a), int(b)] for a, b in kinds])
    strength, radii, c, d = parameters.T
    vectors = positions[i] - positions[j]
    r = np.linalg.norm(vectors, axis=1)
    repulsion = strength * np.exp((radii - r) / HARDNESS)
    energy, forces = open_coulomb(charges_of(numbers), positions)
    energy += float((repulsion - c / r**6 - d / r**8).sum())
    slopes = -repulsion / HARDNESS + 6 * c / r**7 + 8 * d / r**9
    return energy, forces + pair_forces(len(numbers), (i, j), vectors, -slopes / r)


def labelled(atoms: Atoms, **labels: Any) -> Atoms:
    """An open structure with energy, forces and what follows from the charges, and ``labels``."""
    energy, forces = energy_and_forces(atoms.numbers, atoms.positions)
    charges = charges_of(atoms.numbers)
    atoms.info.update(REF_energy=energy, total_charge=round(charges.sum()), **labels)
    atoms.arrays["REF_forces"] = forces
    add_charges(atoms, charges)
    if not charges.sum():
        atoms.info["REF_dipole"] = charges @ atoms.positions
    return atoms


def add_charges(atoms: Atoms, charges: Array) -> None:
    """Labels of atoms that keep their ``charges`` [e] wherever they go."""
    atoms.arrays["REF_charges"] = charges
    atoms.arrays["REF_bec"] = (charges[:, None, None] * np.eye(3)).reshape(-1, 9)
