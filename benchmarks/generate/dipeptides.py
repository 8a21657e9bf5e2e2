"""Capped polar dipeptides, zwitterions and dimer scans, GFN2-xTB, open boundaries."""

from __future__ import annotations

import zlib
from functools import partial

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.optimize import BFGS
from frames import Job
from rdkit import Chem
from rdkit.Chem import AllChem
from scipy.spatial.transform import Rotation
from xtb import calculator, label, log, rattled, trajectory

METHOD = "GFN2-xTB"
MOLECULES = {
    "ac_ala_nme": "CC(=O)N[C@@H](C)C(=O)NC",
    "ac_ser_nme": "CC(=O)N[C@@H](CO)C(=O)NC",
    "ac_gly_gly_nme": "CC(=O)NCC(=O)NCC(=O)NC",
    "ac_asn_nme": "CC(=O)N[C@@H](CC(N)=O)C(=O)NC",
    # Quaternary ammonium: a zwitterion that cannot neutralise itself by moving a proton.
    "betaine_gly": "C[N+](C)(C)CC(=O)NCC(=O)[O-]",
    "betaine_ala": "C[N+](C)(C)CC(=O)N[C@@H](C)C(=O)[O-]",
}
HELD_OUT = {"betaine_ser": "C[N+](C)(C)CC(=O)N[C@@H](CO)C(=O)[O-]"}

#: name -> (SMILES and charge of both fragments, largest separation of the centres of mass in A)
DIMERS = {
    "nma_nma": ("CC(=O)NC", 0, "CC(=O)NC", 0, 12.0),
    "formamide_water": ("NC=O", 0, "O", 0, 12.0),
    # Farther apart the gap of an ion pair closes and GFN2 lets the electron flow back.
    "methylammonium_acetate": ("C[NH3+]", 1, "CC(=O)[O-]", -1, 7.0),
    "tetramethylammonium_acetate": ("C[N+](C)(C)C", 1, "CC(=O)[O-]", -1, 10.0),
}
TEMPERATURES = (300.0, 500.0, 700.0)
RATTLE = 0.03


def seed_of(*parts: object) -> int:
    """A seed that depends on the job's name only, so jobs can be added without moving others."""
    return zlib.crc32("/".join(map(str, parts)).encode()) % 2**31


def embed(smiles: str, seed: int) -> tuple[Atoms, np.ndarray]:
    """A force-field conformer and its bonds, shape (n_bonds, 2)."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(mol, randomSeed=seed) != 0:
        raise RuntimeError(f"no conformer for {smiles} with seed {seed}")
    AllChem.MMFFOptimizeMolecule(mol)
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()])
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    return Atoms(symbols, mol.GetConformer().GetPositions()), bonds


def intact(atoms: Atoms, bonds: np.ndarray) -> bool:
    """Whether every bond of the molecule still holds (no proton moved, nothing fell apart)."""
    radii = covalent_radii[atoms.numbers]
    length = np.linalg.norm(atoms.positions[bonds[:, 0]] - atoms.positions[bonds[:, 1]], axis=1)
    return bool((length < 1.35 * radii[bonds].sum(axis=1)).all())


def molecule(name: str, smiles: str, run: int, count: int, bec: bool, split: str) -> list[Atoms]:
    """Frames of one conformer at one temperature, 200 fs apart, every second one rattled."""
    seed = seed_of(name, split, run)
    rng = np.random.RandomState(seed)
    start, bonds = embed(smiles, seed)
    temperature = TEMPERATURES[run % len(TEMPERATURES)]
    walk = trajectory(
        start, partial(calculator, METHOD, 1.0), temperature, [300] + [200] * (count - 1), rng
    )
    frames = []
    for number, snapshot in enumerate(walk):
        if number % 2:
            snapshot = rattled(snapshot, RATTLE, rng)
        snapshot.positions -= snapshot.positions.mean(axis=0)
        if not intact(snapshot, bonds):
            log.warning("dropped one %s frame at %g K: a bond broke", name, temperature)
            continue
        frame = label(snapshot, METHOD, name, dipole=True, bec=bec and number < 2)
        if frame is not None:
            frames.append(frame)
    return frames


def fragment(smiles: str, charge: int) -> Atoms:
    """Relaxed fragment with its centre of mass at the origin."""
    atoms, _ = embed(smiles, 1)
    atoms.calc = calculator(METHOD, charge=charge)
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=300)
    atoms.calc = None
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def dimer(name: str, run: int, count: int, bec: bool, far: bool, split: str) -> list[Atoms]:
    """Scan of the separation of two rigid fragments in one random orientation.

    Distances run from contact (from 6.5 A or half the range when ``far``) to the largest one,
    denser at short range.
    """
    smiles_a, charge_a, smiles_b, charge_b, largest = DIMERS[name]
    rng = np.random.default_rng(seed_of(name, split, run))
    a, b = fragment(smiles_a, charge_a), fragment(smiles_b, charge_b)
    for part in (a, b):
        part.positions = Rotation.random(rng=rng).apply(part.positions)
    axis = np.array([1.0, 0.0, 0.0])

    def gap(r: float) -> float:
        return float(np.linalg.norm(a.positions[:, None] - b.positions - r * axis, axis=2).min())

    first = next(r for r in np.arange(1.5, 12.0, 0.05) if gap(r) > 1.9)
    first = max(first, 0.55 * largest) if far else first
    fractions = np.linspace(0.0, 1.0, count) ** 1.5
    frames = []
    for number, r in enumerate(first + (largest - first) * fractions):
        r += 0.0 if number in (0, count - 1) else rng.uniform(-0.1, 0.1)
        pair = a + Atoms(b.numbers, b.positions + r * axis)
        frame = label(pair, METHOD, name, dipole=True, bec=bec and number in (0, count - 1))
        if frame is None:
            continue
        charge = frame.arrays["REF_charges"][: len(a)].sum()
        if gap(r) > 3.0 and abs(charge - charge_a) > 0.02:
            log.warning("dropped %s at %.1f A: fragment charge %.3f", name, r, charge)
            continue
        frames.append(frame)
    return frames


def jobs() -> list[Job]:
    """All pieces of work; every conformer and every orientation belongs to one split."""
    out = []
    for name, smiles in MOLECULES.items():
        for split, runs, count in (("train", 7, 4), ("val", 2, 2), ("test", 2, 2)):
            for run in range(runs):
                work = partial(molecule, name, smiles, run, count, split == "test", split)
                out.append(Job(f"{name}-{run}", split, work))
    for name, smiles in HELD_OUT.items():
        for run in range(4):
            out.append(
                Job(f"{name}-{run}", "test", partial(molecule, name, smiles, run, 4, True, "test"))
            )
    scans = {"nma_nma": (2, 1), "formamide_water": (2, 1)}
    scans |= {"methylammonium_acetate": (3, 0), "tetramethylammonium_acetate": (5, 2)}
    for name, (train, test) in scans.items():
        for split, runs, count in (("train", train, 6), ("val", 1, 4), ("test", test, 5)):
            for run in range(runs):
                far = split == "test"
                work = partial(dimer, name, run, count, far, far, split)
                out.append(Job(f"{name}-{run}", split, work))
    return out
