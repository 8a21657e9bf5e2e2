"""Whether a teacher's forces are the derivative of its energy, before it labels anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from les.distillation.teachers import Teacher

#: Standard deviation of the displacements that take a structure off its minimum [A].
RATTLE = 0.03
#: Half the difference of positions, root mean square over coordinates [A].
STEP = 0.004
#: Number of random directions.
N_DIRECTIONS = 2
#: Deviation that is accepted, as a share of what forces of this size give.
TOLERANCE = 0.02


def check_forces(teacher: Teacher, atoms: Any, where: str, seed: int = 0) -> dict[str, float]:
    """Compare the forces of a structure with differences of its energy along random directions.

    The structure is displaced a little first, so that there are forces. What single precision
    does to the energy is allowed for.

    Args:
        teacher: the teacher.
        atoms: ``ase.Atoms``.
        where: what messages call the structure.
        seed: of the displacements.

    Returns:
        The largest deviation [eV/A] and what was accepted, both for a displacement of all
        coordinates by one on average.

    Raises:
        ValueError: if a deviation is larger; the message names the structure and both values.
    """
    generator = np.random.default_rng(seed)
    centre = atoms.copy()
    centre.positions += RATTLE * generator.normal(size=(len(atoms), 3))
    results = teacher.results(centre)
    forces, energy = np.asarray(results["forces"]), float(results["energy"])
    if not (np.isfinite(forces).all() and np.isfinite(energy)):
        raise ValueError(f"{where}: the teacher's energy or forces are not finite")
    size = float(np.sqrt(np.square(forces).sum()))
    rounding = 4.0 * float(np.spacing(np.float32(abs(energy)))) / STEP
    accepted = TOLERANCE * size + rounding
    worst = 0.0
    for _ in range(N_DIRECTIONS):
        direction = generator.normal(size=(len(atoms), 3))
        direction *= np.sqrt(direction.size) / np.linalg.norm(direction)
        energies = [_energy(teacher, centre, sign * STEP * direction) for sign in (1.0, -1.0)]
        slope = (energies[0] - energies[1]) / (2.0 * STEP)
        expected = -float(np.sum(forces * direction))
        worst = max(worst, abs(slope - expected))
        if not abs(slope - expected) <= accepted:
            raise ValueError(
                f"{where}: the teacher's forces are not the derivative of its energy: along a "
                f"random direction the energy changes by {slope:.5g} eV/A, the forces say "
                f"{expected:.5g}; nothing was labelled"
            )
    return {"deviation": worst, "accepted": accepted}


def _energy(teacher: Teacher, atoms: Any, displacements: Any) -> float:
    moved = atoms.copy()
    moved.positions += displacements
    return float(teacher.results(moved)["energy"])
