"""``les ir`` and ``les born`` with MACE: what they write is what the model says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from les.response.current import current
from les.testing.structures import crystal
from les_mace import LESCalculator, save_model

pytest.importorskip("calorine")
pytest.importorskip("phonopy")

PAGE = Path(__file__).parents[3] / "docs" / "spectra.md"


@pytest.fixture
def water(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(model, tmp_path / "water.pt")
    return tmp_path


def test_trajectory(water, les_command, model):
    """The first current of the table is that of the first frame."""
    import torch
    from ase import units

    frames = []
    generator = np.random.default_rng(0)
    for _ in range(40):
        atoms = crystal("cubic")
        atoms.set_momenta(generator.normal(scale=0.2, size=(len(atoms), 3)))
        atoms.positions += generator.normal(scale=0.01, size=(len(atoms), 3))
        frames.append(atoms)
    write("trajectory.xyz", frames)
    command = ("ir", "trajectory", "water.pt", "trajectory.xyz", "--interval", "2")
    assert les_command(*command, "--resolution", "1000", "--eps-inf", "1.78") == 0
    table = np.genfromtxt(water / "ir" / "currents.csv", delimiter=",", names=True)
    atoms = read("trajectory.xyz", 0)
    calculator = LESCalculator(model, bec=True, eps_inf=1.78)
    born = calculator.get_property("born_effective_charges", atoms).reshape(-1, 3, 3)
    centre = atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    velocities = torch.tensor((atoms.get_velocities() - centre) * units.fs)
    expected = current(torch.tensor(born), velocities)[0].numpy()
    found = np.array([table[name][0] for name in ("Jx", "Jy", "Jz")])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_run(water, les_command):
    """Molecular dynamics of a model with random weights, which fly apart slowly enough."""
    write("crystal.xyz", crystal("cubic"))
    lengths = ("--equilibration", "0.002", "--production", "0.03", "--timestep", "0.2")
    command = ("ir", "run", "water.pt", "crystal.xyz", *lengths, "--resolution", "3000")
    assert les_command(*command) == 0
    assert (water / "ir" / "spectrum.png").stat().st_size > 10_000


def test_born(water, les_command):
    """Ice in the structure of rock salt does for a file."""
    atoms = bulk("OH", "rocksalt", a=4.2)
    write("crystal.xyz", atoms)
    assert les_command("born", "water.pt", "crystal.xyz", "--eps-inf", "2") == 0
    lines = (water / "BORN").read_text().splitlines()
    assert len(lines) == 4
    calculator = LESCalculator("water.pt", bec=True, acoustic_sum="spread", eps_inf=2.0)
    born = calculator.get_property("born_effective_charges", atoms)[0]
    found = [float(text) for text in lines[2].split()]
    np.testing.assert_allclose(found, born, atol=1e-6)


def test_examples_of_the_page(water, model, capsys):
    """What stands in docs/spectra.md runs, and the energy in the field stays."""
    write("water.xyz", crystal("cubic"))
    write("crystal.xyz", bulk("OH", "rocksalt", a=4.2))
    save_model(model, water / "rock_salt.pt")
    in_a_field, of_a_crystal = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(in_a_field, str(PAGE), "exec"), names)
    atoms, before = names["atoms"], float(capsys.readouterr().out)
    names["dynamics"].run(5)
    assert atoms.get_total_energy() == pytest.approx(before, abs=0.02)
    exec(compile(of_a_crystal, str(PAGE), "exec"), names)
    assert names["phonon"].qpoints.frequencies.shape == (1, 6)
