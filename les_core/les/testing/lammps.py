"""Tests: a model in LAMMPS, on ranks that ``mpirun`` starts, gives what ASE gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

#: LAMMPS's unit of pressure is that of older constants, in eV/A^3.
LAMMPS_BAR = 1.0 / 1.6021765e6


def water(
    cell: Sequence[Sequence[float]], n: Sequence[int], generator: np.random.Generator
) -> Atoms:
    """Molecules on a grid, turned and moved at random, in the lower 6.6 A of a slab."""
    atoms = Atoms(cell=cell, pbc=[True, True, cell[2][2] < 20])
    height = min(1.0, 6.6 / cell[2][2]) if cell[2][2] > 20 else 1.0
    for place in np.ndindex(*n):
        one = molecule("H2O")
        one.rotate(generator.uniform(0, 360), generator.normal(size=3), center="COP")
        target = ((np.array(place) + 0.5) / n * (1, 1, height)) @ np.array(cell)
        one.positions += target - one.positions.mean(axis=0) + generator.normal(size=3) * 0.1
        atoms += one
    atoms.wrap()
    return atoms


def mpirun(size: int, *arguments: Any, status: int = 0) -> tuple[str, str]:
    """Run Python on some ranks; returns what it printed."""
    program = Path(sys.executable).with_name("mpirun")
    done = subprocess.run(
        [program, "-np", str(size), sys.executable, "-W", "ignore", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        # Ranks that wait leave the cores to others.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def write_cases(folder: Path, models: Mapping[str, str]) -> None:
    """Write a structure of water for each model file, and what ``lammps_worker.py`` does with it.

    Args:
        folder: has the model files.
        models: name of a case -> name of its model file.
    """
    commands = ["velocity all create 3000 1 loop all", "fix nve all nve"]
    cases = {}
    for seed, (name, file) in enumerate(models.items()):
        cell = [[8.5, 0.0, 0.0], [1.5, 8.2, 0.0], [0.0, 0.0, 8.4]]
        write(folder / f"{name}.xyz", water(cell, (2, 2, 2), np.random.default_rng(seed)))
        cases[name] = {"model": file, "before": [], "commands": commands, "steps": 3}
    (folder / "cases.json").write_text(json.dumps(cases))


def check_against_ase(folder: Path, name: str, size: int, calculator: Any) -> None:
    """Compare results of ``lammps_worker.py`` after its last step with those of a calculator.

    Args:
        folder: has the structure ``NAME.xyz`` and the results ``NAME-SIZE.npz``.
        name: of a case, in which atoms have moved.
        size: number of ranks.
        calculator: of the same model.
    """
    with np.load(folder / f"{name}-{size}.npz") as file:
        found = dict(file)
    start = read(folder / f"{name}.xyz")
    atoms = Atoms(start.numbers, found["positions"], cell=found["cell"], pbc=start.pbc)
    assert np.abs(atoms.positions - start.positions).max() > 1e-4
    assert len(found["n_own"]) == size
    atoms.calc = calculator

    def close(value: Any, expected: Any) -> None:
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9 * np.abs(expected).max())

    close(found["pe"], atoms.get_potential_energy())
    close(found["forces"], atoms.get_forces())
    close(found["charges"], calculator.results["charges"])
    assert abs(calculator.results["les_energy"]) > 1e-2
    close(found["vector"][3], calculator.results["les_energy"])
    close(found["pressure"] * LAMMPS_BAR, -atoms.get_stress())
