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

from les_bench.systems.coulomb import Array
from les_bench.systems.ions import labelled

#: Largest distance of two ions in a cluster that is trained on [A].
TRAINED = 8.0
#: Clusters of a split, and pairs of ions among them.
SIZES = {"train": (200, 40), "valid": (20, 6), "test": (24, 0)}
#: Distances to which the ions are drawn apart [A].
SCAN = np.concatenate([np.arange(2.3, 4.0, 0.2), np.arange(4.0, 16.1, 0.5)])
#: Forces above this are left out [eV/A].
LARGEST_FORCE = 6.0


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
    return labelled(Atoms([11, 17], places), config_type="Na+ and Cl-", distance=distance)


def charged_chains(distance: float) -> Atoms:
    """Na2Cl+ and NaCl2-, two straight chains side by side at a distance [A]."""
    along = 2.5 * np.arange(-1, 2)
    places = [(x, 0.0, 0.0) for x in along] + [(x, distance, 0.0) for x in along]
    atoms = Atoms([11, 17, 11, 17, 11, 17], places)
    return labelled(atoms, config_type="Na2Cl+ and NaCl2-", distance=distance)


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
    return labelled(Atoms(numbers, positions), config_type=f"{n_pairs} pairs")
