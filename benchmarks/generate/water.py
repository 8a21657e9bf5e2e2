"""Bulk water, 32 molecules at 0.997 g/cm3, GFN1-xTB, periodic.

A flexible TIP3P liquid decorrelates the hydrogen-bond network cheaply; a few femtoseconds of
GFN1-xTB dynamics then bring each snapshot's molecules onto the surface that labels it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from ase import Atoms, units
from ase.calculators.tip3p import TIP3P, angleHOH, rOH
from ase.optimize import FIRE
from frames import Job
from scipy.spatial.transform import Rotation
from xtb import calculator, label, rattled, trajectory

METHOD = "GFN1-xTB"
DENSITY = 0.997  # g/cm3
MOLAR_MASS = 18.0154
EQUILIBRATION = 4000  # steps of 0.5 fs
SPACING = 1500
XTB_STEPS = 5  # of 1 fs
RATTLE = 0.02
TEMPERATURES = {
    "train": (300.0, 320.0, 350.0, 400.0, 450.0),
    "val": (300.0, 400.0),
    "test": (300.0, 350.0, 400.0),
}
FRAMES = {"train": 10, "val": 4, "test": 4}

BOND = 900.0 * units.kcal / units.mol  # eV/A^2, E = BOND/2 (r - rOH)^2
ANGLE = 110.0 * units.kcal / units.mol  # eV/rad^2


class FlexibleTIP3P(TIP3P):
    """TIP3P with harmonic bonds and angle: no constraints to solve, and molecules that vibrate."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
    ) -> None:
        """Add the intramolecular terms to TIP3P's energy and forces."""
        super().calculate(atoms, properties or ["forces"], system_changes or ["positions"])
        xyz = self.atoms.positions.reshape(-1, 3, 3)
        arms = xyz[:, 1:] - xyz[:, :1]
        length = np.linalg.norm(arms, axis=2, keepdims=True)
        unit = arms / length
        cosine = (unit[:, 0] * unit[:, 1]).sum(axis=1)
        stretch = length[..., 0] - rOH
        bend = np.arccos(cosine) - np.deg2rad(angleHOH)
        energy = BOND / 2 * (stretch**2).sum() + ANGLE / 2 * (bend**2).sum()
        on_h = -BOND * stretch[..., None] * unit
        # d(angle)/d(arm_k) = -(u_other - cos u_k) / (sin |arm_k|)
        across = unit[:, ::-1] - cosine[:, None, None] * unit
        sine = np.sqrt(1 - cosine**2)
        on_h += ANGLE * bend[:, None, None] * across / (sine[:, None, None] * length)
        forces = np.concatenate([-on_h.sum(axis=1, keepdims=True), on_h], axis=1)
        self.results["energy"] += energy
        self.results["forces"] = self.results["forces"] + forces.reshape(-1, 3)


def box(
    rng: np.random.Generator, density: float = DENSITY, sites: np.ndarray | None = None
) -> Atoms:
    """A molecule of random orientation on each site of a cubic box.

    Args:
        rng: source of the orientations.
        density: g/cm3.
        sites: fractional coordinates (n_molecules, 3); every other site of a 4 x 4 x 4 grid
            by default.
    """
    if sites is None:
        sites = np.argwhere(np.indices((4, 4, 4)).sum(axis=0) % 2 == 0) / 4
    length = (len(sites) * MOLAR_MASS * 1e24 / (density * units._Nav)) ** (1 / 3)
    length = round(length, 6)
    half = np.deg2rad(angleHOH) / 2
    water = rOH * np.array(
        [[0, 0, 0], [0, np.cos(half), np.sin(half)], [0, np.cos(half), -np.sin(half)]]
    )
    positions = [Rotation.random(rng=rng).apply(water) + site for site in sites * length]
    return Atoms("OHH" * len(sites), np.concatenate(positions), cell=[length] * 3, pbc=True)


def classical(cutoff: float = 4.9) -> FlexibleTIP3P:
    """The force field that moves the liquid; its cutoff (A) is below half the box."""
    return FlexibleTIP3P(rc=cutoff, width=0.8)


def liquid(split: str, temperature: float, count: int) -> list[Atoms]:
    """``count`` labelled snapshots, 0.75 ps apart, of one trajectory with its own start."""
    seed = {"train": 0, "val": 1, "test": 2}[split] * 1000 + int(temperature)
    rng = np.random.RandomState(seed)
    start = box(np.random.default_rng(seed))
    start.calc = classical()
    FIRE(start, logfile=None).run(fmax=0.5, steps=150)
    start.calc = None
    steps = [EQUILIBRATION] + [SPACING] * (count - 1)
    frames = []
    for number, snapshot in enumerate(
        trajectory(start, classical, temperature, steps, rng, timestep=0.5, friction=0.01)
    ):
        quantum = trajectory(
            snapshot,
            partial(calculator, METHOD, 1.0),
            temperature,
            [XTB_STEPS],
            rng,
            velocities=False,
        )
        final = next(quantum)
        if number % 2:
            final = rattled(final, RATTLE, rng)
        frame = label(final, METHOD, f"water_{temperature:g}K", stress=True)
        if frame is not None:
            frames.append(frame)
    return frames


def jobs() -> list[Job]:
    """One trajectory per split and temperature."""
    return [
        Job(f"{t:g}K", split, partial(liquid, split, t, FRAMES[split]))
        for split, temperatures in TEMPERATURES.items()
        for t in temperatures
    ]
