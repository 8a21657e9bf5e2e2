"""The examples, in a small form: each ends in a picture."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from ase.units import Bohr, Hartree

from les.spectra.classical import FlexibleWater, water_molecule
from les.spectra.frames import born_charges

pytest.importorskip("calorine")
pytest.importorskip("phonopy")
pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Runs the ``main`` of an example."""

    def run(name, *argv):
        monkeypatch.syspath_prepend(str(EXAMPLES))
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](list(argv))
        sys.modules.pop("models", None)

    return run


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_infrared_of_water(example, tmp_path, capsys):
    lengths = ("--equilibration", "0.01", "--production", "0.07", "--resolution", "1000")
    example("infrared_of_water", *lengths, "--output", str(tmp_path))
    assert "static dielectric constant" in capsys.readouterr().out
    assert is_picture(tmp_path / "infrared_of_water.png")


def test_harmonic_infrared(example, tmp_path, capsys):
    example("harmonic_infrared", "--output", str(tmp_path))
    assert capsys.readouterr().out.count("km/mol") == 3
    assert is_picture(tmp_path / "harmonic_infrared.png")


def test_phonons_with_splitting(example, tmp_path, capsys):
    """The splitting that is drawn is that of the charges."""
    example("phonons_with_splitting", "--repeats", "2", "--output", str(tmp_path))
    out = capsys.readouterr().out
    found, expected = (float(x.split()[-2]) for x in out.splitlines()[-2:])
    assert found == pytest.approx(expected, abs=2e-3)
    assert is_picture(tmp_path / "phonons_with_splitting.png")
    assert (tmp_path / "BORN").is_file()


def test_molecule_in_a_field(example, tmp_path, capsys):
    example("molecule_in_a_field", "--duration", "0.05", "--output", str(tmp_path))
    assert "0.05 ps in 0.1 V/A" in capsys.readouterr().out
    assert is_picture(tmp_path / "molecule_in_a_field.png")


def test_polarisability_of_water(example, tmp_path, capsys):
    example("polarisability_of_water", "--output", str(tmp_path))
    assert "A^3 a molecule, reference 1.470 A^3" in capsys.readouterr().out
    assert is_picture(tmp_path / "polarisability_of_water.png")


def test_rock_salt_labels(example, tmp_path):
    """Labels are those of point charges; forces sum to zero."""
    output = tmp_path / "train.xyz"
    example("rock_salt_labels", "--frames", "2", "--repeats", "1", "--output", str(output))
    frames = read(output, ":")
    assert len(frames) == 2
    for atoms in frames:
        np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-6)
        assert -35.0 < atoms.get_potential_energy() < -20.0


def test_water_in_openmm(example, tmp_path, capsys):
    """Energies are the model's, in the units of ASE."""
    pytest.importorskip("openmmml", reason="openmmml is not installed")
    example("water_in_openmm", "--steps", "20", "--output", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 fs, temperature ")
    assert abs(float(lines[1].split()[-2])) < 1e-4
    assert "its dipole is" in lines[3]
    assert is_picture(tmp_path / "water_in_openmm.png")


@pytest.mark.parametrize("drivers", [0, 2])
def test_water_in_ipi(example, tmp_path, capsys, drivers):
    """Each bead has its dipole, in atomic units, and energy is conserved; also by a socket."""
    pytest.importorskip("ipi", reason="ipi is not installed")
    options = ("--steps", "4", "--beads", "2", "--output", str(tmp_path))
    example("water_in_ipi", *options, "--drivers", str(drivers), "--bec")
    assert ("<ffsocket" in (tmp_path / "input.xml").read_text()) == (drivers > 0)
    assert "1 fs, 2 beads, 24 atoms" in capsys.readouterr().out
    model, start = FlexibleWater(bec=True), read(tmp_path / "start.xyz")
    model.calculate(start)
    start.calc = model
    born = born_charges(model, start)
    assert np.abs(born.sum(axis=0)).max() < 1e-6
    for bead in "01":
        dipole = np.loadtxt(tmp_path / f"water.dipole_{bead}")[0]
        np.testing.assert_allclose(Bohr * dipole, model.results["dipole"], rtol=1e-6)
        charges = np.loadtxt(tmp_path / f"water.charges_{bead}")[0]
        np.testing.assert_allclose(charges, model.results["charges"], rtol=1e-6)
        rows = np.loadtxt(tmp_path / f"water.bec_{bead}")[: 3 * len(charges)]  # of displacements
        expected = born.transpose(0, 2, 1).reshape(-1, 3)
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    log = np.loadtxt(tmp_path / "water.out")
    np.testing.assert_allclose(log[0, 4], model.results["energy"], atol=1e-5)
    np.testing.assert_allclose(log[:, 2], log[0, 2], atol=2e-2)
    assert is_picture(tmp_path / "water_in_ipi.png")


def test_ipi_driver(monkeypatch, tmp_path):
    """Born effective charges have a row for each displacement, and sum to zero."""
    pytest.importorskip("ipi", reason="ipi is not installed")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    driver = runpy.run_path(str(EXAMPLES / "ipi_driver.py"))["LESDriver"]
    atoms = water_molecule()
    write(tmp_path / "molecule.xyz", atoms)
    made = driver(template=str(tmp_path / "molecule.xyz"), bec=True)
    sys.modules.pop("models", None)
    positions, cell = atoms.positions / Bohr, np.diag(3 * [np.inf])
    energy, forces, _, extras = made(cell, positions)
    model = FlexibleWater()
    model.calculate(atoms)
    assert Hartree * energy == pytest.approx(model.results["energy"], rel=1e-6)
    np.testing.assert_allclose(Hartree / Bohr * forces, model.results["forces"], atol=1e-6)
    bec = np.array(json.loads(extras)["BEC"])
    assert bec.shape == (9, 3)
    np.testing.assert_allclose(bec.reshape(3, 3, 3).sum(axis=0), 0.0, atol=1e-8)
    step = np.zeros((3, 3))
    step[1, 0] = 1e-4
    dipoles = [
        np.array(json.loads(made(cell, positions + sign * step)[3])["dipole"]) for sign in (1, -1)
    ]
    np.testing.assert_allclose(bec[3], (dipoles[0] - dipoles[1]) / 2e-4, atol=1e-5)


def test_every_example_is_listed_and_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")} - {"models.py", "ipi_driver.py"}
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"[{name}]({name})" in page for name in names)
    tested = Path(__file__).read_text()
    assert all(f'example("{name.removesuffix(".py")}"' in tested for name in names)
