"""Currents of trajectories, and of molecular dynamics that is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read, write

from les.dynamics.momenta import inner_momenta, temperature
from les.locks import locked
from les.spectra import motion
from les.spectra.classical import FlexibleWater, RigidIons, water_box, water_molecule
from les.spectra.dynamics import run
from les.spectra.frames import sample
from les.spectra.protocol import Protocol
from les.spectra.trajectory import currents_of_trajectory

pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

SHORT = Protocol(equilibration=0.01, production=0.02, every=2, keep_every=3, seed=4)


@pytest.fixture
def trajectory(tmp_path):
    """Five frames of a box that moves by itself."""
    atoms = water_box()
    atoms.set_momenta(np.random.default_rng(0).normal(scale=0.3, size=(len(atoms), 3)))
    frames = []
    for _ in range(5):
        frames.append(atoms.copy())
        atoms.positions += 0.5 * units.fs * atoms.get_velocities()
    write(tmp_path / "trajectory.xyz", frames)
    return tmp_path / "trajectory.xyz"


def changed(path, change):
    frames = read(path, ":")
    change(frames[3])
    write(path, frames)


def test_a_trajectory(trajectory, tmp_path):
    """The current is the derivative of the dipole, here by finite differences."""
    output = tmp_path / "currents.csv"
    model = FlexibleWater(bec=True)
    series = currents_of_trajectory(model, trajectory, 0.5, output)
    assert series.volume == pytest.approx(6.2**3)
    assert series.current.shape == (5, 3)
    atoms = read(trajectory, 2)
    centre = atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    step = 1e-4 * (atoms.get_velocities() - centre) * units.fs
    dipoles = []
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions += sign * step
        dipoles.append(model.get_property("dipole", moved))
    expected = (dipoles[0] - dipoles[1]) / 2e-4
    np.testing.assert_allclose(series.current[2], expected, atol=1e-8)
    kinetic = 0.5 * (atoms.get_masses()[:, None] * (step / 1e-4 / units.fs) ** 2).sum()
    assert series.temperature[2] == pytest.approx(2.0 * kinetic / (69 * units.kB))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["currents.csv", "trajectory.xyz"]


def test_an_interrupted_evaluation_goes_on(trajectory, tmp_path, monkeypatch):
    """Frames that have been evaluated are not evaluated again."""
    expected = currents_of_trajectory(FlexibleWater(bec=True), trajectory, 0.5, tmp_path / "a.csv")
    calls = []

    class Interrupted(FlexibleWater):
        def calculate(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            super().calculate(*args, **kwargs)

    for _ in range(2):
        try:
            series = currents_of_trajectory(
                Interrupted(bec=True), trajectory, 0.5, tmp_path / "b.csv", {"model": 1}
            )
        except KeyboardInterrupt:
            with pytest.raises(ValueError, match="is of another run, with other model"):
                currents_of_trajectory(
                    FlexibleWater(bec=True), trajectory, 0.5, tmp_path / "b.csv", {"model": 2}
                )
    assert len(calls) == 6  # five frames, one of them twice
    np.testing.assert_array_equal(series.current, expected.current)


def drop_velocities(atoms):
    del atoms.arrays["momenta"]


def change_cell(atoms):
    atoms.set_cell(1.001 * atoms.cell[:])


def change_axes(atoms):
    atoms.pbc = False


def swap(atoms):
    atoms.numbers = atoms.numbers[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_velocities, "there are no velocities; write them with the positions"),
        (change_cell, "the cell must be that of the first frame"),
        (change_axes, "the periodic axes must be those of the first frame"),
        (swap, "the atoms must be those of the first frame"),
    ],
)
def test_bad_frames(trajectory, tmp_path, change, message):
    changed(trajectory, change)
    with pytest.raises(ValueError, match=message) as error:
        currents_of_trajectory(FlexibleWater(bec=True), trajectory, 0.5, tmp_path / "out.csv")
    assert str(error.value).startswith(f"{trajectory}: frame 3: ")


def test_bad_trajectories(trajectory, tmp_path):
    output = tmp_path / "out.csv"
    with pytest.raises(ValueError, match="make it with bec=True"):
        currents_of_trajectory(FlexibleWater(), trajectory, 0.5, output)
    with pytest.raises(ValueError, match="`interval` must be a positive time in fs, got -1"):
        currents_of_trajectory(FlexibleWater(bec=True), trajectory, -1, output)
    frames = read(trajectory, ":")
    for atoms in frames:
        atoms.pbc = (True, True, False)
    write(trajectory, frames)
    with pytest.raises(ValueError, match="a slab has no volume"):
        currents_of_trajectory(FlexibleWater(bec=True), trajectory, 0.5, output)


# --- molecular dynamics

SCRIPT = """
import os, signal, sys
from pathlib import Path
from les.spectra.dynamics import run
from les.spectra.classical import FlexibleWater, water_molecule
from tests.core.test_currents import SHORT

class Killed(FlexibleWater):
    calls = 0
    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*args, **kwargs)

run(Killed(bec=True), water_molecule(), SHORT, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_is_the_same_run(tmp_path):
    """Killed in both parts, it ends with the numbers of one that was let alone."""
    whole = run(FlexibleWater(bec=True), water_molecule(), SHORT, tmp_path / "whole.csv")
    output = tmp_path / "killed.csv"
    for calls in ("11", "37"):
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(output), calls],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert not output.exists()
    found = run(FlexibleWater(bec=True), water_molecule(), SHORT, output)
    np.testing.assert_array_equal(found.series.current, whole.series.current)
    np.testing.assert_array_equal(found.energy, whole.energy)
    assert output.read_text() == (tmp_path / "whole.csv").read_text()


def test_what_is_run(tmp_path, monkeypatch):
    """NVE conserves energy, at rest as a whole; charges are made only where they are kept."""
    asked = []

    class Noting(FlexibleWater):
        def calculate(self, *args, **kwargs):
            asked.append(self.bec)
            super().calculate(*args, **kwargs)

    momenta = []
    plain = motion.sample

    def noted(calculator, atoms):
        momenta.append(atoms.get_momenta())
        return plain(calculator, atoms)

    monkeypatch.setattr(motion, "sample", noted)
    protocol = Protocol(equilibration=0.0204, production=0.05, timestep=0.25, every=4)
    assert protocol.n_equilibration == 84
    result = run(Noting(bec=True), water_molecule(), protocol, tmp_path / "currents.csv")
    assert len(result.series.current) == protocol.n_currents == 51
    assert result.series.interval == 1.0
    assert result.series.volume is None
    assert np.ptp(result.energy) < 2e-3
    assert abs(result.drift) < 0.05
    assert len(asked) == 1 + 84 + 200
    assert sum(asked) == 1 + (84 + 200) // 4
    np.testing.assert_allclose(momenta[-1].sum(axis=0), 0.0, atol=1e-9)


def test_a_longer_run_adds(tmp_path):
    """What is there stays; another protocol, structure or model is another run."""
    output = tmp_path / "currents.csv"
    first = run(FlexibleWater(bec=True), water_molecule(), SHORT, output, {"model": "a"})
    longer = Protocol(equilibration=0.01, production=0.03, every=2, keep_every=3, seed=4)
    second = run(FlexibleWater(bec=True), water_molecule(), longer, output, {"model": "a"})
    assert len(second.series.current) == 31
    np.testing.assert_array_equal(second.series.current[:21], first.series.current)
    shorter = run(FlexibleWater(bec=True), water_molecule(), SHORT, output, {"model": "a"})
    np.testing.assert_array_equal(shorter.series.current, first.series.current)
    other = Protocol(equilibration=0.01, production=0.02, every=2, keep_every=3, seed=5)
    for protocol, atoms, model, name in (
        (other, water_molecule(), "a", "seed"),
        (SHORT, water_box(), "a", "structure"),
        (SHORT, water_molecule(), "b", "model"),
    ):
        with pytest.raises(ValueError, match=f"is of another run, with other {name}"):
            run(FlexibleWater(bec=True), atoms, protocol, output, {"model": model})
    with locked(tmp_path / "currents.csv.journal"), pytest.raises(OSError, match="is in use"):
        run(FlexibleWater(bec=True), water_molecule(), SHORT, output, {"model": "a"})


def test_velocities_that_are_there_are_kept(tmp_path):
    atoms = water_molecule()
    atoms.set_momenta([[0, 0, 0], [0, 0.5, 0], [0, -0.5, 0]])
    protocol = Protocol(equilibration=0, production=0.004, every=2)
    found = run(FlexibleWater(bec=True), atoms, protocol, tmp_path / "currents.csv")
    expected = sample(FlexibleWater(bec=True), atoms)
    np.testing.assert_allclose(found.series.current[0], expected.current, atol=1e-15)


@pytest.mark.parametrize(
    "atoms",
    [
        water_molecule(),
        water_box(),
        Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]]),
        Atoms("CO", [[0, 0, 0], [0.3, 0.5, 1.0]]),
    ],
    ids=["water", "box", "CO2", "CO"],
)
def test_temperature(atoms):
    """It is that of the distribution velocities are drawn from, with motion as a whole or not."""
    generator = np.random.default_rng(3)
    atoms = atoms.copy()
    widths = np.sqrt(units.kB * 300.0 * atoms.get_masses())[:, None]
    found = []
    for _ in range(2000):
        atoms.set_momenta(widths * generator.normal(size=(len(atoms), 3)))
        found.append(temperature(atoms))
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(300.0, abs=4.0 * error)
    assert error < 10.0
    atoms.set_momenta(inner_momenta(atoms))
    assert temperature(atoms) == pytest.approx(found[-1])
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
    if not atoms.pbc.any():
        np.testing.assert_allclose(atoms.get_angular_momentum(), 0.0, atol=1e-12)


@pytest.mark.parametrize("equilibration", [0.0, 0.004])
def test_molecules_are_let_go_without_rotation(equilibration):
    """Whether velocities come from the thermostat or were drawn for a run without one."""
    protocol = Protocol(equilibration=equilibration, production=0.004, every=2)
    moved = motion.CurrentMotion(FlexibleWater(bec=True), water_molecule(), protocol)
    for _ in moved.records(protocol.n_equilibration):
        pass
    assert moved.atoms.get_kinetic_energy() > 1e-4
    np.testing.assert_allclose(moved.atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(moved.atoms.get_angular_momentum(), 0.0, atol=1e-12)


def test_charges_of_classical_models_are_their_own():
    """Those of a lone ion are not shifted to a sum of zero, and its settings say so."""
    model = RigidIons()
    assert model.les_config.neutrality == "none"
    assert model.get_property("charges", Atoms("Na", [[0, 0, 0]])) == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be a positive number, got 0.0"),
        ({"timestep": -0.5}, "`timestep` must be a positive number, got -0.5"),
        ({"equilibration": -1.0}, "`equilibration` must be zero or a positive time in ps, got -1"),
        ({"every": 0}, "`every` must be a positive whole number, got 0"),
        ({"production": 0.001}, r"`production` = 0.001 ps has no two currents 2 fs apart"),
    ],
)
def test_bad_protocols(options, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**options)


def test_bad_runs(tmp_path):
    output = tmp_path / "currents.csv"
    slab = water_box()
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="a slab has no volume"):
        run(FlexibleWater(bec=True), slab, SHORT, output)
    with pytest.raises(ValueError, match="make it with bec=True"):
        run(FlexibleWater(), water_molecule(), SHORT, output)
    with pytest.raises(ValueError, match="the model knows the elements Na, Cl, got "):
        run(RigidIons(bec=True), water_molecule(), SHORT, output)
