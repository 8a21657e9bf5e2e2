"""GFN-xTB labels and short molecular dynamics, shared by the three systems.

Units: eV, Angstrom, e. Every label is a fresh self-consistent calculation on positions that were
rounded to the written precision first, so a stored frame can be labelled again to the same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

log = logging.getLogger("les.generate")

ACCURACY = 0.1
MAX_FORCE = 15.0
DECIMALS = 5
BEC_STEP = 5e-3


def calculator(method: str, accuracy: float = ACCURACY, charge: int = 0) -> TBLite:
    """A silent closed-shell xTB calculator with 300 K electronic smearing."""
    return TBLite(
        method=method, accuracy=accuracy, charge=charge, electronic_temperature=300.0, verbosity=0
    )


def label(
    atoms: Atoms,
    method: str,
    config_type: str,
    *,
    stress: bool = False,
    dipole: bool = False,
    bec: bool = False,
) -> Atoms | None:
    """Label one geometry with xTB.

    Args:
        atoms: neutral structure; its positions are rounded before the calculation.
        method: ``"GFN1-xTB"`` or ``"GFN2-xTB"``.
        config_type: class of the frame, kept in ``info``.
        stress: add ``REF_stress`` (6, Voigt xx yy zz yz xz xy, eV/A^3).
        dipole: add ``REF_dipole`` (3, e A).
        bec: add ``REF_bec`` (n_atoms, 9, e).

    Returns:
        A bare copy that carries the labels, or None where the self-consistent cycle did not
        converge, a number is not finite, or a force is above ``MAX_FORCE``.
    """
    frame = Atoms(
        atoms.numbers, np.round(atoms.positions, DECIMALS), cell=atoms.cell, pbc=atoms.pbc
    )
    frame.calc = calculator(method)
    try:
        forces = frame.get_forces()
        energy = frame.get_potential_energy()
    except CalculationFailed as error:
        log.warning("dropped one %s frame: %s", config_type, error)
        return None
    results = dict(frame.calc.results)
    frame.calc = None
    if not np.isfinite(forces).all() or np.abs(forces).max() > MAX_FORCE:
        log.warning("dropped one %s frame: largest force %.1f", config_type, np.abs(forces).max())
        return None
    frame.info.update(config_type=config_type, total_charge=0, REF_energy=round(float(energy), 7))
    frame.arrays["REF_forces"] = np.round(forces, DECIMALS)
    frame.arrays["REF_charges"] = np.round(results["charges"], DECIMALS)
    if dipole:
        frame.info["REF_dipole"] = np.round(results["dipole"], 6)
    if stress:
        frame.info["REF_stress"] = np.round(results["stress"], 8)
    if bec:
        frame.arrays["REF_bec"] = np.round(born_charges(frame, method), DECIMALS)
    return frame


def born_charges(atoms: Atoms, method: str) -> np.ndarray:
    """Z[i, alpha, beta] = d mu_alpha / d R_{i beta} by central differences, shape (n_atoms, 9)."""
    moved = Atoms(atoms.numbers, atoms.positions)
    moved.calc = calculator(method, accuracy=0.01)
    out = np.empty((len(atoms), 3, 3))
    for i in range(len(atoms)):
        for beta in range(3):
            ends = []
            for sign in (1, -1):
                moved.positions = atoms.positions
                moved.positions[i, beta] += sign * BEC_STEP
                ends.append(moved.get_dipole_moment())
            out[i, :, beta] = (ends[0] - ends[1]) / (2 * BEC_STEP)
    return out.reshape(-1, 9)


def trajectory(
    atoms: Atoms,
    make_calculator: Callable[[], object],
    temperature: float,
    steps: list[int],
    rng: np.random.RandomState,
    timestep: float = 1.0,
    friction: float = 0.02,
    velocities: bool = True,
) -> Iterator[Atoms]:
    """Langevin dynamics; yields a copy after each stretch of ``steps``.

    Args:
        atoms: start; velocities are drawn anew unless ``velocities`` is False.
        make_calculator: builds the calculator that drives the dynamics.
        temperature: K.
        steps: lengths of the stretches, in time steps.
        rng: source of all randomness.
        timestep: fs.
        friction: 1/fs.
        velocities: draw Maxwell-Boltzmann velocities first.
    """
    walker = atoms.copy()
    walker.calc = make_calculator()
    if velocities:
        MaxwellBoltzmannDistribution(walker, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        walker,
        timestep * units.fs,
        temperature_K=temperature,
        friction=friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    for stretch in steps:
        dynamics.run(stretch)
        yield walker.copy()


def rattled(atoms: Atoms, amplitude: float, rng: np.random.RandomState) -> Atoms:
    """A copy with Gaussian displacements of standard deviation ``amplitude`` (A)."""
    copy = atoms.copy()
    copy.positions += rng.normal(scale=amplitude, size=copy.positions.shape)
    return copy
