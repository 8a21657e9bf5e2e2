"""Au2 on MgO(001), with and without subsurface Al, GFN1-xTB, periodic slab with vacuum.

Four layers of a 3 x 3 primitive surface cell; flat (wetting) or upright (non-wetting) Au2; two Mg
of the third layer, about 6.5 A below the gold, replaced by Al in the doped class.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from ase import Atoms
from ase.build import fcc100
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from frames import Job
from xtb import calculator, label, rattled, trajectory

METHOD = "GFN1-xTB"
LATTICE = 4.2655  # A, so that the cell is about that of the usual DFT reference, 9.05 A
LAYERS = 4
VACUUM = 14.0
TEMPERATURES = {"train": 500.0, "val": 300.0, "test": 400.0}
#: split -> amplitudes of the rattles (A) and lengths of the stretches of dynamics (steps of 3 fs)
PLAN = {
    "train": ((0.03, 0.05, 0.07, 0.09, 0.10, 0.12), [8, 8]),
    "val": ((0.06,), [10]),
    "test": ((0.08,), [12]),
}


def slab(doped: bool, wetting: bool) -> Atoms:
    """Ideal slab with Au2 over an oxygen atom (upright) or along two oxygens (flat)."""
    oxygen = fcc100("O", (3, 3, LAYERS), a=LATTICE, vacuum=0.0)
    # Within a layer Mg is half a cubic cell edge away, along the diagonal of the primitive cell.
    shift = (oxygen.cell[0] + oxygen.cell[1]) / 6
    magnesium = Atoms("Mg" * len(oxygen), oxygen.positions + shift)
    atoms = oxygen + magnesium
    height = LATTICE / 2 * (LAYERS - 1)
    atoms.cell[2] = [0.0, 0.0, height + VACUUM]
    atoms.wrap(pbc=[True, True, False])
    atoms.pbc = True

    top = [o for o in oxygen.positions if o[2] > height - 0.1]
    centre = atoms.cell[:2].sum(axis=0) / 2
    first, second = sorted(top, key=lambda o: float(np.hypot(*(o - centre)[:2])))[:2]
    if wetting:
        along = (second - first) / np.linalg.norm(second - first)
        middle = (first + second) / 2 + [0.0, 0.0, 2.3]
        gold = [middle - 1.27 * along, middle + 1.27 * along]
    else:
        gold = [first + [0.0, 0.0, 2.2], first + [0.0, 0.0, 4.7]]
    if doped:
        third = height - LATTICE
        layer = [a.index for a in atoms if a.symbol == "Mg" and abs(a.position[2] - third) < 0.1]
        for index in (layer[0], layer[4]):
            atoms.symbols[index] = "Al"
    return atoms + Atoms("Au2", gold)


@cache
def relaxed(doped: bool, wetting: bool) -> Atoms:
    """Partly relaxed start; the lowest layer stays where it is."""
    atoms = slab(doped, wetting)
    atoms.set_constraint(FixAtoms(mask=atoms.positions[:, 2] < 0.1))
    atoms.calc = calculator(METHOD, 1.0)
    BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.1, steps=40)
    atoms.calc = None
    atoms.set_constraint()
    return atoms


def frames_of(doped: bool, wetting: bool, split: str) -> list[Atoms]:
    """Rattled and dynamic frames of one class; a test set also gets the relaxed structure."""
    name = f"{'doped' if doped else 'undoped'}_{'wetting' if wetting else 'nonwetting'}"
    # The classes of a split share their random numbers: frames come in fours with like
    # distortions, so that energy differences between classes are not drowned by the rattles.
    rng = np.random.RandomState(("train", "val", "test").index(split))
    start = relaxed(doped, wetting)
    amplitudes, steps = PLAN[split]
    raw = [start] if split == "test" else []
    raw += [rattled(start, amplitude, rng) for amplitude in amplitudes]
    raw += trajectory(
        rattled(start, 0.02, rng),
        partial(calculator, METHOD, 1.0),
        TEMPERATURES[split],
        steps,
        rng,
        timestep=3.0,
    )
    frames = [frame for atoms in raw if (frame := label(atoms, METHOD, name)) is not None]
    for frame in frames:
        frame.info.update(doped=doped, geometry="wetting" if wetting else "nonwetting")
    return frames


def jobs() -> list[Job]:
    """One job per split and class."""
    return [
        Job(
            f"{'doped' if doped else 'undoped'}-{'wetting' if wetting else 'nonwetting'}",
            split,
            partial(frames_of, doped, wetting, split),
        )
        for split in PLAN
        for doped in (False, True)
        for wetting in (False, True)
    ]
