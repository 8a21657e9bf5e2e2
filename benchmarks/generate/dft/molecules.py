"""Isolated molecules and dimers, neutral, zwitterionic and charged, in open boundaries."""

from __future__ import annotations

from functools import partial

import numpy as np
import xtb
from ase import Atoms
from ase.optimize import BFGS
from dipeptides import METHOD, embed, intact
from scipy.spatial.transform import Rotation

from dft.cp2k import WALL
from dft.methods import MOLECULES
from dft.trajectories import Trajectory, seed_of
from dft.work import Part

#: name -> (SMILES, total charge)
SINGLE = {
    "ac_ala_nme": ("CC(=O)N[C@@H](C)C(=O)NC", 0),
    "ac_ser_nme": ("CC(=O)N[C@@H](CO)C(=O)NC", 0),
    "ac_gly_gly_nme": ("CC(=O)NCC(=O)NCC(=O)NC", 0),
    # Zwitterions that cannot neutralise themselves by moving a proton.
    "betaine": ("C[N+](C)(C)CC(=O)[O-]", 0),
    "betaine_gly": ("C[N+](C)(C)CC(=O)NCC(=O)[O-]", 0),
    "ac_lys_nme": ("CC(=O)N[C@@H](CCCC[NH3+])C(=O)NC", 1),
    "ac_asp_nme": ("CC(=O)N[C@@H](CC(=O)[O-])C(=O)NC", -1),
    "methylammonium": ("C[NH3+]", 1),
    "guanidinium": ("NC(=[NH2+])N", 1),
    "acetate": ("CC(=O)[O-]", -1),
}
HELD_OUT = {"betaine_ala": ("C[N+](C)(C)CC(=O)N[C@@H](C)C(=O)[O-]", 0)}

#: name -> (SMILES and charge of both fragments, largest separation of the centres of mass in A)
DIMERS = {
    "nma_nma": ("CC(=O)NC", 0, "CC(=O)NC", 0, 10.0),
    "formamide_water": ("NC=O", 0, "O", 0, 10.0),
    "acetate_water": ("CC(=O)[O-]", -1, "O", 0, 10.0),
    "methylammonium_water": ("C[NH3+]", 1, "O", 0, 10.0),
    "methylammonium_methylammonium": ("C[NH3+]", 1, "C[NH3+]", 1, 10.0),
    # Farther apart the gap of an ion pair closes and the electron flows back.
    "methylammonium_acetate": ("C[NH3+]", 1, "CC(=O)[O-]", -1, 7.0),
    "tetramethylammonium_acetate": ("C[N+](C)(C)C", 1, "CC(=O)[O-]", -1, 9.0),
}
TEMPERATURES = (300.0, 500.0, 400.0)
RATTLE = 0.02
#: split -> trajectories (scans) of a molecule (dimer), frames of each
RUNS = {"train": (3, 5), "val": (1, 3), "test": (1, 4)}
SCANS = {"train": (2, 5), "val": (1, 3), "test": (1, 4)}
#: Test frames with Born charges.
BORN = ("ac_ala_nme", "betaine_gly", "acetate", "ac_lys_nme", "tetramethylammonium_acetate")


def molecule(name: str, smiles: str, charge: int, temperature: float, count: int) -> list[Atoms]:
    """Snapshots of GFN2-xTB dynamics, 200 fs apart, from a conformer of its own."""
    seed = seed_of("dft", "molecules", name)
    rng = np.random.RandomState(seed)
    start, bonds = embed(smiles, seed)
    move = partial(xtb.calculator, METHOD, 1.0, charge)
    steps = [300] + [200] * (count - 1)
    frames = []
    for snapshot in xtb.trajectory(start, move, temperature, steps, rng):
        if not intact(snapshot, bonds):
            xtb.log.warning("%s: dropped what follows, because a bond broke", name)
            break
        frames.append(snapshot)
    return placed(frames)


def scan(name: str, pair: str, count: int, far: bool) -> list[Atoms]:
    """Two fragments in one orientation at growing distance, denser at short range.

    Each scan has rigid fragments, which a rattle of its own has distorted. Distances of the
    centres of mass run from contact (from half the range when ``far``) to the largest one.
    """
    rng = np.random.default_rng(seed_of("dft", "molecules", name))
    smiles_a, charge_a, smiles_b, charge_b, largest = DIMERS[pair]
    a, b = (fragment(s, q, rng) for s, q in ((smiles_a, charge_a), (smiles_b, charge_b)))
    axis = np.array([1.0, 0.0, 0.0])

    def gap(distance: float) -> float:
        """Shortest distance between atoms of the two."""
        between = a.positions[:, None] - b.positions - distance * axis
        return float(np.linalg.norm(between, axis=2).min())

    first = next(r for r in np.arange(1.5, 12.0, 0.05) if gap(r) > 1.9)
    first = max(first, 0.55 * largest) if far else first
    distances = first + (largest - first) * np.linspace(0.0, 1.0, count) ** 1.5
    return placed([a + Atoms(b.numbers, b.positions + r * axis) for r in distances])


def fragment(smiles: str, charge: int, rng: np.random.Generator) -> Atoms:
    """A relaxed fragment, rattled and turned, with its centre of mass at the origin."""
    atoms, _ = embed(smiles, 1)
    atoms.calc = xtb.calculator(METHOD, charge=charge)
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=300)
    atoms.calc = None
    atoms.positions += rng.normal(scale=RATTLE, size=atoms.positions.shape)
    atoms.positions -= atoms.get_center_of_mass()
    atoms.positions = Rotation.random(rng=rng).apply(atoms.positions)
    return atoms


def placed(frames: list[Atoms]) -> list[Atoms]:
    """Copies with their centres of mass at the origin, turned to fit into a small box.

    The dipole of a charged molecule is about that origin. Of 200 orientations, the one whose
    box is smallest saves half of the grid. All frames turn alike, so that the wavefunction of
    one is a good start for the next.
    """
    copies = [atoms.copy() for atoms in frames]
    for copy in copies:
        copy.positions -= copy.get_center_of_mass()
    turns = Rotation.random(200, rng=np.random.default_rng(0))
    best = min(
        turns,
        key=lambda turn: max(
            np.prod(np.ptp(turn.apply(copy.positions), axis=0) + 2 * WALL) for copy in copies
        ),
    )
    for copy in copies:
        copy.positions = best.apply(copy.positions)
    return copies


def part() -> Part:
    """All molecules and scans, those of different kinds taking turns."""
    kinds: dict[str, list[Trajectory]] = {}
    for name, (smiles, charge) in (SINGLE | HELD_OUT).items():
        for split, (runs, count) in RUNS.items():
            if name in HELD_OUT and split != "test":
                continue
            for run in range(2 if name in HELD_OUT else runs):
                label = f"{name}-{split}-{run}"
                make = partial(molecule, label, smiles, charge, TEMPERATURES[run], count)
                born = (0,) if split == "test" and name in BORN else ()
                kinds.setdefault(name, []).append(
                    Trajectory(label, split, count, make, charge, {"config_type": name}, born, True)
                )
    for pair, (_, charge_a, _, charge_b, _) in DIMERS.items():
        for split, (runs, count) in SCANS.items():
            for run in range(runs):
                label = f"{pair}-{split}-{run}"
                make = partial(scan, label, pair, count, split == "test")
                born = (0,) if split == "test" and pair in BORN else ()
                charge = charge_a + charge_b
                kinds.setdefault(pair, []).append(
                    Trajectory(label, split, count, make, charge, {"config_type": pair}, born, True)
                )
    longest = max(len(trajectories) for trajectories in kinds.values())
    turns = [each[n] for n in range(longest) for each in kinds.values() if n < len(each)]
    return Part("molecules", MOLECULES, tuple(turns))
