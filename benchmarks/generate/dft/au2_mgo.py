"""Au2 on MgO(001), with and without three Al far below it, flat (wetting) and upright.

Six layers of a 3 x 3 primitive surface cell. The dopants are in the fifth layer, 10 A below the
gold: too far for a short-ranged model to see both.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xtb
from ase import Atoms
from ase.build import fcc100

from dft.methods import AU2_MGO
from dft.trajectories import Relaxation, Trajectory, seed_of
from dft.work import Part

METHOD = "GFN1-xTB"
LATTICE = 4.265  # A, cubic MgO
LAYERS = 6
HEIGHT = LATTICE / 2 * (LAYERS - 1)
LENGTH = 26.46  # of the cell along the surface normal, A
TIMESTEP = 5.0  # fs
AMPLITUDES = (0.03, 0.06, 0.09, 0.12)  # of the rattles, A
#: split -> temperature (K) and frames of each trajectory of GFN1-xTB dynamics
PLAN = {"train": ((300.0, 5), (600.0, 5)), "val": ((450.0, 2),), "test": ((300.0, 2), (600.0, 2))}
STEPS = 35  # largest number of steps of a relaxation


def slab(doped: bool, wetting: bool) -> Atoms:
    """Ideal slab with Au2 upright over an oxygen or flat over two neighbouring magnesiums."""
    magnesium = fcc100("Mg", (3, 3, LAYERS), a=LATTICE, vacuum=0.0)
    edge = magnesium.cell[0, 0] / 3
    # Neighbours along the edges of the primitive cell are alike; the other ion is on its diagonal.
    oxygen = Atoms("O" * len(magnesium), magnesium.positions + [edge / 2, edge / 2, 0.0])
    atoms = magnesium + oxygen
    if doped:
        fifth = [a.index for a in magnesium if abs(a.position[2] - LATTICE / 2) < 0.1]
        column = sorted(fifth, key=lambda i: tuple(np.round(magnesium.positions[i, :2], 2)))
        for index in column[::4]:  # along the diagonal of the cell
            atoms.symbols[index] = "Al"
    top = [a.position for a in atoms if a.position[2] > HEIGHT - 0.1]
    if wetting:
        first = next(p for p in top if np.allclose(p[:2] / edge % 1.0, top[0][:2] / edge % 1.0))
        middle = first + [edge / 2, 0.0, 2.9]
        gold = [middle - [1.27, 0.0, 0.0], middle + [1.27, 0.0, 0.0]]
    else:
        first = top[0] + [edge / 2, edge / 2, 0.0]
        gold = [first + [0.0, 0.0, 2.2], first + [0.0, 0.0, 4.7]]
    atoms += Atoms("Au2", gold)
    atoms.positions[:, 2] += 1.0
    atoms.cell = [3 * edge, 3 * edge, LENGTH]
    atoms.pbc = True
    atoms.wrap()
    return atoms


def lowest_layer(atoms: Atoms) -> np.ndarray:
    """Mask (n,) of the atoms that a relaxation keeps where they are."""
    return atoms.positions[:, 2] < 1.5


def name_of(doped: bool, wetting: bool) -> str:
    """Name of a class."""
    return f"{'doped' if doped else 'undoped'}_{'wetting' if wetting else 'nonwetting'}"


def rattles(seed: int, doped: bool, wetting: bool, amplitudes: tuple[float, ...]) -> list[Atoms]:
    """Rattled slabs; the classes share their random numbers, so their energies are comparable."""
    rng = np.random.RandomState(seed)
    return [xtb.rattled(slab(doped, wetting), amplitude, rng) for amplitude in amplitudes]


def dynamics(seed: int, doped: bool, wetting: bool, temperature: float, count: int) -> list[Atoms]:
    """Snapshots of GFN1-xTB dynamics, 30 fs apart."""
    rng = np.random.RandomState(seed)
    start = xtb.rattled(slab(doped, wetting), 0.02, rng)
    move = partial(xtb.calculator, METHOD, 1.0)
    steps = [10] + [6] * (count - 1)
    return list(xtb.trajectory(start, move, temperature, steps, rng, TIMESTEP))


def part() -> Part:
    """Relaxations, rattles and dynamics of the four classes, which take turns."""
    classes = [(doped, wetting) for doped in (False, True) for wetting in (False, True)]
    trajectories: list[Trajectory] = []

    def add(kind: str, split: str, count: int, make: object, **more: object) -> None:
        """Add a trajectory of each class."""
        for doped, wetting in classes:
            name = name_of(doped, wetting)
            info = {
                "config_type": name,
                "doped": doped,
                "geometry": "wetting" if wetting else "nonwetting",
            }
            seed = seed_of("dft", "au2_mgo", kind, split)
            cls = Relaxation if split == "path" else Trajectory
            run = partial(make, seed, doped, wetting)
            label = f"{kind}-{split}-{name}"
            trajectories.append(cls(label, split, count, run, info=info, restart=True, **more))

    add("relax", "path", STEPS, lambda seed, *of: [slab(*of)], fixed=lowest_layer)
    add("rattle", "train", len(AMPLITUDES), partial(rattles, amplitudes=AMPLITUDES))
    for split, runs in PLAN.items():
        for temperature, count in runs:
            make = partial(dynamics, temperature=temperature, count=count)
            add(f"{temperature:g}K", split, count, make)
    return Part("au2_mgo", AU2_MGO, tuple(trajectories))
