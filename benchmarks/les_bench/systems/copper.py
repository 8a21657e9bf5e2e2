"""Crystals of copper by effective medium theory: nothing in them is electrostatic.

All atoms are the same and the potential ends after a few neighbours, so a long-range term has
nothing to find. LES must neither help nor harm here: where it does, its parameters do something
else than what they are for.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

#: Structures of each split.
SIZES = {"train": 40, "valid": 6, "test": 20}
#: Largest strain, and standard deviations of the displacements [A].
STRAIN, RATTLE = 0.04, (0.02, 0.12)


def make() -> dict[str, list[Atoms]]:
    """The frames of all splits; always the same."""
    return {
        split: [structure(np.random.default_rng([seed, number])) for number in range(n)]
        for seed, (split, n) in enumerate(SIZES.items())
    }


def structure(generator: np.random.Generator) -> Atoms:
    """32 atoms, strained and displaced, in half of the structures without one of them."""
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    strain = generator.uniform(-STRAIN, STRAIN, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += generator.normal(0, generator.uniform(*RATTLE), (len(atoms), 3))
    if generator.random() < 0.5:
        del atoms[int(generator.integers(len(atoms)))]
    atoms.calc = EMT()
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    frame.info["REF_energy"] = float(atoms.get_potential_energy())
    frame.info["REF_stress"] = atoms.get_stress()
    frame.info["total_charge"] = 0
    frame.arrays["REF_forces"] = atoms.get_forces()
    return frame
