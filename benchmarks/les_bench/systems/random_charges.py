"""Charges of +1 and -1 e at random places in a box, which repel each other when they are near.

Fields from afar cancel in such a box to a large part. A model that sees the charges within a few
Angstrom, and by one layer of messages the neighbours of these, does about as well as one with the
exact sum: a gain of LES in a dense system of ions is no proof that it was the distance that
mattered. Without messages the short-range model fails.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from les_bench.systems.coulomb import Array, pair_forces, periodic_coulomb
from les_bench.systems.ions import HARDNESS, PAIRS, add_charges, charges_of

#: Ions of either kind, and edge of the box [A].
N_PAIRS, EDGE = 32, 13.0
#: No two ions are nearer than this [A].
NEAREST = 2.5
#: Structures of each split.
SIZES = {"train": 60, "valid": 8, "test": 20}


def make() -> dict[str, list[Atoms]]:
    """The frames of all splits; always the same."""
    return {
        split: [structure(np.random.default_rng([seed, number])) for number in range(n)]
        for seed, (split, n) in enumerate(SIZES.items())
    }


def structure(generator: np.random.Generator) -> Atoms:
    """One box with all labels."""
    positions: Array = np.zeros((0, 3))
    while len(positions) < 2 * N_PAIRS:
        place = generator.uniform(0, EDGE, 3)
        vectors = positions - place
        vectors -= EDGE * np.round(vectors / EDGE)
        if np.all(np.linalg.norm(vectors, axis=1) > NEAREST):
            positions = np.vstack([positions, place])
    atoms = Atoms([11, 17] * N_PAIRS, positions, cell=[EDGE] * 3, pbc=True)
    charges = charges_of(atoms.numbers)
    energy, forces = periodic_coulomb(charges, positions, EDGE)
    near, pushes = _repulsion(positions)
    atoms.info.update(REF_energy=energy + near, total_charge=0)
    atoms.arrays["REF_forces"] = forces + pushes
    add_charges(atoms, charges)
    return atoms


def _repulsion(positions: Array) -> tuple[float, Array]:
    """Energy and forces of the repulsion, the same for all pairs: only charges tell ions apart."""
    strength, radii, _, _ = PAIRS[11, 17]
    i, j = np.triu_indices(len(positions), 1)
    vectors = positions[i] - positions[j]
    vectors -= EDGE * np.round(vectors / EDGE)
    r = np.linalg.norm(vectors, axis=1)
    energies = strength * np.exp((radii - r) / HARDNESS)
    forces = pair_forces(len(positions), (i, j), vectors, energies / HARDNESS / r)
    return float(energies.sum()), forces
