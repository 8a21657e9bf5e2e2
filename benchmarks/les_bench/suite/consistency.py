"""Whether a model keeps the symmetries of physics, and whether its results agree with one another.

Each check is one number that would be zero without rounding: the root mean square change of the
forces, or the difference of forces and stress from finite differences of the energy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les.data.bare import bare
from les.data.total_charge import total_charge
from les_bench.systems.states import repeated

Array = NDArray[np.float64]
Predict = Callable[[Atoms], dict[str, Any]]

LOG = logging.getLogger("les")

#: Steps of finite differences: of positions [A], and of the strain.
STEP, STRAIN = 2e-3, 1e-3
#: Edge of the box that is as good as none [A].
HUGE = 80.0
#: Check -> unit of its number.
UNITS = {
    "rotation": "meV/A",
    "translation": "meV/A",
    "permutation": "meV/A",
    "force": "meV/A",
    "stress": "meV/A^3",
    "supercell": "meV/A",
    "huge_box": "meV/A",
}


def check(atoms: Atoms, predict: Predict) -> dict[str, float]:
    """All checks that apply to a structure.

    Args:
        atoms: periodic in all directions, or in none.
        predict: returns ``energy`` [eV], ``forces`` ``[n_atoms, 3]`` [eV/A] and, of periodic
            structures where the model has it, ``stress`` in ASE's order of six [eV/A^3].

    Returns:
        Check of :data:`UNITS` -> its number. What a model cannot do is left out, with a warning in
        the log.
    """
    generator = np.random.default_rng(0)
    first = predict(atoms)
    checks: dict[str, Callable[[], float]] = {
        "rotation": lambda: _rotation(atoms, predict, first["forces"], generator),
        "translation": lambda: _translation(atoms, predict, first["forces"], generator),
        "permutation": lambda: _permutation(atoms, predict, first["forces"], generator),
        "force": lambda: _force(atoms, predict, first["forces"], generator),
    }
    if atoms.pbc.all():
        checks["supercell"] = lambda: _supercell(atoms, predict, first["forces"])
        if "stress" in first:
            checks["stress"] = lambda: _stress(atoms, predict, first["stress"], generator)
    elif not total_charge(atoms):  # charged ones have a background in any box
        checks["huge_box"] = lambda: _huge_box(atoms, predict, first["forces"])
    found = {}
    for name, measure in checks.items():
        try:
            found[name] = 1000 * measure()
        except Exception as error:  # a training of hours does not end with this
            LOG.warning("check of %s: not possible: %s: %s", name, type(error).__name__, error)
    return found


def _rotation(atoms: Atoms, predict: Predict, forces: Array, generator: Any) -> float:
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    turned = _copy(atoms, positions=atoms.positions @ turn, cell=atoms.cell.array @ turn)
    return _rms(predict(turned)["forces"] @ turn.T - forces)


def _translation(atoms: Atoms, predict: Predict, forces: Array, generator: Any) -> float:
    moved = _copy(atoms, positions=atoms.positions + generator.uniform(-9, 9, 3))
    return _rms(predict(moved)["forces"] - forces)


def _permutation(atoms: Atoms, predict: Predict, forces: Array, generator: Any) -> float:
    order = generator.permutation(len(atoms))
    return _rms(predict(_copy(atoms[order]))["forces"] - forces[order])


def _force(atoms: Atoms, predict: Predict, forces: Array, generator: Any) -> float:
    """Error of a force per coordinate, by the slope of the energy along a random direction."""
    direction = generator.normal(size=forces.shape)
    energies = [
        predict(_copy(atoms, positions=atoms.positions + sign * STEP * direction))["energy"]
        for sign in (1, -1)
    ]
    slope = (energies[0] - energies[1]) / (2 * STEP)
    return float(abs(slope + np.sum(forces * direction)) / np.linalg.norm(direction))


def _stress(atoms: Atoms, predict: Predict, stress: Array, generator: Any) -> float:
    """Error of the stress, by the slope of the energy along a random strain."""
    strain = generator.normal(size=(3, 3))
    strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
    energies = []
    for sign in (1, -1):
        deform = np.eye(3) + sign * STRAIN * strain
        deformed = {"positions": atoms.positions @ deform, "cell": atoms.cell.array @ deform}
        energies.append(predict(_copy(atoms, **deformed))["energy"])
    slope = (energies[0] - energies[1]) / (2 * STRAIN) / atoms.cell.volume
    xx, yy, zz, yz, xz, xy = np.ravel(stress)
    tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return float(abs(slope - np.sum(tensor * strain)))


def _supercell(atoms: Atoms, predict: Predict, forces: Array) -> float:
    """Twice the cell, along its shortest vector."""
    repeats = [1, 1, 1]
    repeats[int(np.argmin(atoms.cell.lengths()))] = 2
    return _rms(predict(repeated(atoms, repeats))["forces"] - np.tile(forces, (2, 1)))


def _huge_box(atoms: Atoms, predict: Predict, forces: Array) -> float:
    """A periodic box so large that the images hardly feel one another."""
    boxed = _copy(atoms)
    boxed.set_cell([HUGE] * 3)
    boxed.pbc = True
    boxed.center()
    return _rms(predict(boxed)["forces"] - forces)


def _copy(atoms: Atoms, positions: Array | None = None, cell: Array | None = None) -> Atoms:
    """A structure without labels, with other places or another cell."""
    copy: Atoms = bare(atoms)
    if positions is not None:
        copy.positions = positions
    if cell is not None:
        copy.set_cell(cell)
    return copy


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
