"""Liquid water, 24 molecules in a periodic box, at two densities and 280-400 K."""

from __future__ import annotations

from functools import partial

import numpy as np
import xtb
from ase import Atoms
from ase.optimize import FIRE
from water import METHOD, box, classical

from dft.methods import WATER
from dft.trajectories import Trajectory, seed_of
from dft.work import Part

DENSITIES = (0.997, 0.90)  # g/cm3
#: split -> temperatures (K) and frames of each trajectory
PLAN = {
    "train": ((280.0, 300.0, 330.0, 360.0, 400.0), 12),
    "val": ((320.0,), 9),
    "test": ((300.0, 380.0), 8),
}
EQUILIBRATION = 3000  # steps of 0.5 fs
SPACING = 1000
SETTLING = 10  # steps of 1 fs of the GFN1-xTB dynamics that follows the classical one
CUTOFF = 4.4  # of the classical dynamics, A


def start(rng: np.random.Generator, density: float) -> Atoms:
    """Molecules on 24 of the 27 sites of a grid."""
    grid = np.argwhere(np.ones((3, 3, 3))) / 3
    return box(rng, density, rng.permutation(grid)[:24])


def liquid(name: str, density: float, temperature: float, count: int) -> list[Atoms]:
    """Snapshots of one classical trajectory 0.5 ps apart, settled by GFN1-xTB dynamics."""
    seed = seed_of("dft", "water", name)
    rng = np.random.RandomState(seed)
    atoms = start(np.random.default_rng(seed), density)
    move = partial(classical, CUTOFF)
    atoms.calc = move()
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=150)
    atoms.calc = None
    steps = [EQUILIBRATION] + [SPACING] * (count - 1)
    quantum = partial(xtb.calculator, METHOD, 1.0)
    return [
        next(xtb.trajectory(snapshot, quantum, temperature, [SETTLING], rng, velocities=False))
        for snapshot in xtb.trajectory(atoms, move, temperature, steps, rng, 0.5, 0.01)
    ]


def part() -> Part:
    """All trajectories of water; the first frame of three of the test set gets Born charges."""
    trajectories = []
    for split, (temperatures, count) in PLAN.items():
        for temperature in temperatures:
            for density in DENSITIES:
                name = f"{split}-{temperature:g}K-{density:.3f}"
                trajectories.append(
                    Trajectory(
                        name,
                        split,
                        count,
                        partial(liquid, name, density, temperature, count),
                        info={"config_type": f"water_{temperature:g}K", "density": density},
                        born=(0,) if split == "test" and name != "test-380K-0.900" else (),
                    )
                )
    return Part("water", WATER, tuple(trajectories))
