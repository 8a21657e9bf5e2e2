"""The examples for OpenMM and i-PI with a MACE model: what the engines see is the model's."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from ase.units import Bohr

from les.testing.adapter import results_of
from les.testing.structures import crystal
from les_mace import LESCalculator, save_model

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture
def example(model, tmp_path, monkeypatch):
    """Runs an example with a small model and crystal; the calculator of that model."""
    save_model(model, tmp_path / "model.pt")
    write(tmp_path / "crystal.xyz", crystal("cubic"))

    def run(name, *options):
        monkeypatch.syspath_prepend(str(EXAMPLES))
        structure = ["--structure", str(tmp_path / "crystal.xyz"), "--output", str(tmp_path)]
        arguments = [str(tmp_path / "model.pt"), *structure, *options]
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](arguments)
        sys.modules.pop("models", None)
        return LESCalculator(tmp_path / "model.pt")

    return run


def test_openmm(example, capsys):
    pytest.importorskip("openmmml", reason="openmmml is not installed")
    example("water_in_openmm", "--steps", "2", "--every", "1")
    lines = capsys.readouterr().out.splitlines()
    assert abs(float(lines[1].split()[-2])) < 1e-4
    assert abs(float(lines[2].split()[-2])) < 1e-8


def test_ipi_by_a_socket(example, tmp_path):
    pytest.importorskip("ipi", reason="ipi is not installed")
    calculator = example("water_in_ipi", "--steps", "1", "--beads", "1", "--drivers", "1")
    results = results_of(calculator, read(tmp_path / "start.xyz"))
    assert np.abs(results["charges"]).max() > 1e-2
    charges = np.loadtxt(tmp_path / "water.charges_0")[0]
    np.testing.assert_allclose(charges, results["charges"], atol=1e-6)
    dipole = Bohr * np.loadtxt(tmp_path / "water.dipole_0")[0]
    np.testing.assert_allclose(dipole, results["dipole"], atol=1e-5)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "water.out")[0, 4], results["energy"])
