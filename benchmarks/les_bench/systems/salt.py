"""Clusters of Na+ and Cl-, whose energies are a formula and whose charges are known exactly.

The reference is the rigid-ion potential of Fumi and Tosi (J. Phys. Chem. Solids 25, 31 (1964)):
repulsion, dispersion, and the Coulomb energy of charges of +1 and -1 e. Models are trained on
clusters whose ions are at most 8 A apart, and tested on others, and on ions that are drawn apart
to twice that distance: a model with a cutoff cannot follow there, one that has found the charges
can. Nothing but energies and forces is trained on.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import _e, _eps0
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Coulomb constant [eV A / e^2].
COULOMB = _e / (4 * np.pi * _eps0) * 1e10
CHARGES = {11: 1.0, 17: -1.0}
#: Of the pairs ++, +-, -- : strength b c [eV], sum of radii [A], C [eV A^6], D [eV A^8].
REPULSION = 0.2110
HARDNESS = 0.317  # rho [A]
PAIRS = {
    (11, 11): (1.25 * REPULSION, 2.340, 1.05, 0.499),
    (11, 17): (1.00 * REPULSION, 2.755, 6.99, 8.68),
    (17, 17): (0.75 * REPULSION, 3.170, 72.4, 145.4),
}
#: Largest distance of two ions in a cluster that is trained on [A].
TRAINED = 8.0
#: Clusters of a split, and pairs of ions among them.
SIZES = {"train": (200, 40), "valid": (20, 6), "test": (24, 0)}
#: Distances to which the ions are drawn apart [A].
SCAN = np.concatenate([np.arange(2.3, 4.0, 0.2), np.arange(4.0, 16.1, 0.5)])
#: Forces above this are left out [eV/A].
LARGEST_FORCE = 6.0


def energy_and_forces(numbers: NDArray[np.int_], positions: Array) -> tuple[float, Array]:
    """Energy [eV] and forces ``[n_atoms, 3]`` [eV/A] of ions without any cell."""
    forces = np.zeros_like(positions)
    energy = 0.0
    for i in range(len(numbers)):
        for j in range(i):
            vector = positions[i] - positions[j]
            r = float(np.linalg.norm(vector))
            key = tuple(sorted((int(numbers[i]), int(numbers[j]))))
            strength, radii, c, d = PAIRS[key]  # type: ignore[index]
            repulsion = strength * np.exp((radii - r) / HARDNESS)
            coulomb = COULOMB * CHARGES[int(numbers[i])] * CHARGES[int(numbers[j])] / r
            energy += repulsion - c / r**6 - d / r**8 + coulomb
            slope = -repulsion / HARDNESS + 6 * c / r**7 + 8 * d / r**9 - coulomb / r
            forces[i] -= slope * vector / r
            forces[j] += slope * vector / r
    return energy, forces


def labelled(atoms: Atoms, kind: str, distance: float | None = None) -> Atoms:
    """The structure with all labels; ``kind`` says what it is one of."""
    energy, forces = energy_and_forces(atoms.numbers, atoms.positions)
    charges = np.array([CHARGES[int(z)] for z in atoms.numbers])
    atoms.info.update(REF_energy=energy, total_charge=0, config_type=kind)
    atoms.info["REF_dipole"] = charges @ atoms.positions
    atoms.arrays["REF_forces"] = forces
    atoms.arrays["REF_charges"] = charges
    atoms.arrays["REF_bec"] = (charges[:, None, None] * np.eye(3)).reshape(-1, 9)
    if distance is not None:
        atoms.info["distance"] = distance
    return atoms


def make() -> dict[str, list[Atoms]]:
    """The frames of all splits; always the same."""
    frames: dict[str, list[Atoms]] = {}
    for seed, (split, (n_clusters, n_pairs)) in enumerate(SIZES.items()):
        generator = np.random.default_rng(seed)
        # Distances of the pairs are equally dense in 1/r, so that near ones are not rare.
        inverse = np.linspace(1 / 2.3, 1 / TRAINED, n_pairs)
        frames[split] = [pair(1 / x, generator) for x in inverse]
        while len(frames[split]) < n_clusters:
            frame = cluster(int(generator.integers(2, 5)), generator)
            if np.abs(frame.arrays["REF_forces"]).max() < LARGEST_FORCE:
                frames[split].append(frame)
    generator = np.random.default_rng(len(SIZES))
    frames["test"] += [pair(r, generator) for r in SCAN]
    frames["test"] += [charged_chains(r) for r in SCAN[SCAN >= 3.0]]
    return frames


def pair(distance: float, generator: np.random.Generator) -> Atoms:
    """Na+ and Cl- at a distance [A], in a random direction."""
    direction = generator.normal(size=3)
    places = [np.zeros(3), distance * direction / np.linalg.norm(direction)]
    return labelled(Atoms([11, 17], places), "Na+ and Cl-", distance)


def charged_chains(distance: float) -> Atoms:
    """Na2Cl+ and NaCl2-, two straight chains side by side at a distance [A]."""
    along = 2.5 * np.arange(-1, 2)
    places = [(x, 0.0, 0.0) for x in along] + [(x, distance, 0.0) for x in along]
    return labelled(Atoms([11, 17, 11, 17, 11, 17], places), "Na2Cl+ and NaCl2-", distance)


def cluster(n_pairs: int, generator: np.random.Generator) -> Atoms:
    """A neutral cluster of ``n_pairs`` of each ion, no two of which are too near or too far."""
    numbers = np.array([11, 17] * n_pairs)
    radius = generator.uniform(2.5, TRAINED / 2)
    positions: Array = np.zeros((0, 3))
    while len(positions) < len(numbers):
        place = generator.uniform(-radius, radius, size=3)
        distances = np.linalg.norm(positions - place, axis=1)
        if np.linalg.norm(place) <= radius and np.all(distances > 2.2):
            positions = np.vstack([positions, place])
        elif generator.random() < 0.002:  # there may be no room left
            positions, radius = np.zeros((0, 3)), min(1.05 * radius, TRAINED / 2)
    return labelled(Atoms(numbers, positions), f"{n_pairs} pairs")
