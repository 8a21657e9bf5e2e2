"""Trials of a trained model that need no reference: what any potential must pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from les.dynamics.ensemble import Ensemble
from les.dynamics.motion import Motion

#: Displacement of finite differences, as the length of that of all atoms together [A], and how many
#: directions it has.
DISPLACEMENT, N_DIRECTIONS = 0.002, 3
#: Largest deviation of forces from finite differences of the energy [eV/A].
LARGEST_DEVIATION = 2e-3
#: Length of a step of the trial in dynamics [fs], and how many there are.
TIMESTEP, N_STEPS, EVERY = 0.5, 400, 20
#: Temperature of its velocities [K].
TEMPERATURE = 300.0
#: Largest drift of the total energy over the whole trial [eV/atom].
LARGEST_DRIFT = 0.002


def trials(calculator: Any, atoms: Any) -> dict[str, float]:
    """Try a model on one structure; returns what was measured.

    Args:
        calculator: of the model, in double precision.
        atoms: a structure of the kind that the model is made for.

    Returns:
        ``forces_deviation``, the largest deviation of forces from finite differences along a random
        direction [eV/A]; ``total_charge``, the deviation of the sum of charges from the total
        charge [e], of models whose charges sum to it; ``energy_drift``, the slope of the total
        energy in dynamics without a thermostat times its length [eV/atom], and the
        ``temperature`` that this ends with [K].

    Raises:
        ValueError: for forces that are not the derivative of the energy, charges that do not sum to
            the total charge, and dynamics that explode or drift.
    """
    found = {"forces_deviation": forces_deviation(calculator, atoms)}
    if not found["forces_deviation"] <= LARGEST_DEVIATION:
        raise ValueError(
            "forces must be the derivative of the energy, got a difference of "
            f"{found['forces_deviation']:.3g} eV/A along a random direction"
        )
    if getattr(calculator, "uses_total_charge", False):
        charge, total = float(np.sum(calculator.results["charges"])), calculator.total_charge(atoms)
        found["total_charge"] = abs(charge - total)
        if not found["total_charge"] <= 1e-6:
            raise ValueError(f"charges must sum to the total charge, {total:g} e, got {charge:g} e")
    motion = Motion(calculator, atoms, temperature=TEMPERATURE, seed=0)
    energies = []
    for _ in range(N_STEPS // EVERY):
        motion.advance(Ensemble("nve", TIMESTEP), EVERY)
        energies.append(motion.atoms.get_total_energy() / len(atoms))
    slope = np.polyfit(np.arange(len(energies)), energies, 1)[0]
    found["energy_drift"] = float(abs(slope) * len(energies))
    found["temperature"] = float(motion.atoms.get_temperature())
    if not found["energy_drift"] <= LARGEST_DRIFT:
        raise ValueError(
            f"the total energy drifts by {1000.0 * found['energy_drift']:.3g} meV/atom in "
            f"{N_STEPS * TIMESTEP:g} fs, more than {1000.0 * LARGEST_DRIFT:g}"
        )
    return found


def forces_deviation(calculator: Any, atoms: Any) -> float:
    """The largest deviation of forces from differences of the energy, along random directions.

    It is in eV/A. A direction moves all atoms, and has length one in the space of all coordinates.
    """
    generator = np.random.default_rng(0)

    def energy_and_forces(displacement: Any) -> tuple[float, Any]:
        moved = atoms.copy()
        moved.positions += displacement
        calculator.calculate(moved, ["energy", "forces"])
        return float(calculator.results["energy"]), np.array(calculator.results["forces"])

    forces, worst = energy_and_forces(0.0)[1], 0.0
    for _ in range(N_DIRECTIONS):
        direction = generator.normal(size=(len(atoms), 3))
        direction *= DISPLACEMENT / np.linalg.norm(direction)
        forward, backward = (energy_and_forces(sign * direction)[0] for sign in (1.0, -1.0))
        slope = (forward - backward) / (2.0 * DISPLACEMENT)
        expected = -float(np.sum(forces * direction)) / DISPLACEMENT
        worst = max(worst, abs(slope - expected))
    return worst
