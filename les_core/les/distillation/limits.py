"""Configurations that explode, and labels that are not finite or not of the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from les.distillation.settings import LimitSettings


def check_distances(atoms: Any, limits: LimitSettings) -> None:
    """Refuse a structure with atoms too close to one another, before a teacher sees it.

    Raises:
        ValueError: naming the two atoms, their distance and what it must be.
    """
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    cutoffs = limits.closeness * covalent_radii[atoms.numbers]
    first, second, distances = neighbor_list("ijd", atoms, cutoffs)
    if len(distances) == 0:
        return
    worst = int(np.argmin(distances))
    i, j = int(first[worst]), int(second[worst])
    least = float(cutoffs[i] + cutoffs[j])
    raise ValueError(
        f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {distances[worst]:.3g} A "
        f"apart, less than {least:.3g} A, which is {limits.closeness:g} times the sum of their "
        "covalent radii (limits: closeness)"
    )


def check_labels(results: Mapping[str, Any], n_atoms: int) -> None:
    """Refuse labels that are missing, of another shape, or not finite.

    Args:
        results: a calculator's: ``energy`` [eV], ``forces`` ``[n_atoms, 3]`` [eV/A], perhaps
            others.
        n_atoms: number of atoms.

    Raises:
        ValueError: naming the label and what is wrong with it.
    """
    for name, shape in (("energy", ()), ("forces", (n_atoms, 3))):
        if name not in results:
            raise ValueError(f"the teacher gives no {name}")
        if np.shape(results[name]) != shape:
            found = list(np.shape(results[name]))
            raise ValueError(f"the teacher's {name} must have shape {list(shape)}, got {found}")
    for name, value in results.items():
        if not np.isfinite(np.asarray(value, dtype=float)).all():
            raise ValueError(f"not all of the teacher's {name} is finite")


def check_force(forces: Any, limits: LimitSettings) -> None:
    """Refuse forces of a structure that has exploded.

    Args:
        forces: ``[n_atoms, 3]`` [eV/A].
        limits: the largest force.

    Raises:
        ValueError: naming the atom and its force.
    """
    sizes = np.linalg.norm(forces, axis=1)
    atom = int(np.argmax(sizes))
    if sizes[atom] > limits.force:
        raise ValueError(
            f"the force on atom {atom} is {sizes[atom]:.4g} eV/A, more than {limits.force:g} "
            "(limits: force)"
        )


def check_energy(energy: float, lowest: float, n_atoms: int, limits: LimitSettings) -> None:
    """Refuse an energy far above the lowest one of the same composition.

    Args:
        energy, lowest: energies [eV].
        n_atoms: number of atoms.
        limits: the largest difference.

    Raises:
        ValueError: saying by how much.
    """
    excess = (energy - lowest) / n_atoms
    if not np.isfinite(excess) or excess > limits.energy:
        raise ValueError(
            f"the energy is {excess:.4g} eV/atom above the lowest of this composition, more than "
            f"{limits.energy:g} (limits: energy)"
        )
