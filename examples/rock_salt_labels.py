"""Labels for a rock-salt crystal whose Born effective charges and phonons are known.

The reference is a classical potential: point charges of +1 and -1 e that repel one another. A
model trained on its energies and forces should find these charges, and with them how longitudinal
and transverse optical modes split, by itself. docs/spectra.md has the commands.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from les.spectra.classical import RigidIons

#: Edge of the cubic cell at the minimum of the energy [A].
EDGE = 5.69


def structures(frames: int, repeats: int, seed: int) -> list[Atoms]:
    """Supercells at several volumes, with atoms displaced at random, labelled."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        edge = EDGE * (1.0 + generator.uniform(-0.02, 0.03))
        atoms = bulk("NaCl", "rocksalt", a=edge, cubic=True).repeat(repeats)
        # The two sublattices against one another, in a wave as long as the cell.
        phase = 2.0 * np.pi * atoms.get_scaled_positions(wrap=False)[:, generator.integers(3)]
        wave = np.cos(phase)[:, None] * generator.normal(scale=0.1, size=3)
        atoms.positions += np.where(atoms.numbers[:, None] == 11, wave, -wave)
        width = generator.uniform(0.03, 0.2)
        atoms.positions += generator.normal(scale=width, size=atoms.positions.shape)
        reference = RigidIons()
        reference.calculate(atoms)
        energy, forces = reference.results["energy"], reference.results["forces"]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        found.append(atoms)
    return found


def main(argv: list[str] | None = None) -> None:
    """Write a file of labelled structures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=2, help="cubic cells along each axis")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("train.xyz"))
    arguments = parser.parse_args(argv)
    write(arguments.output, structures(arguments.frames, arguments.repeats, arguments.seed))


if __name__ == "__main__":
    main()
