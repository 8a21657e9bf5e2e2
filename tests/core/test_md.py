"""The command ``les md``, with classical models for trained ones."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write

from les import cli
from les.backends import arguments
from les.data.external_field import external_field, has_energy
from les.dynamics.ensemble import Ensemble
from les.dynamics.motion import Motion, UnstableError
from les.dynamics.plan import Plan
from les.dynamics.run import FILES, run
from les.dynamics.start import without_labels
from les.spectra.classical import FlexibleWater, water_box, water_molecule
from les.testing.fragments import in_fragments

pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

NVT = Ensemble("nvt", 0.5, 300.0, 0.05)
SHORT = Plan(NVT, n_steps=12, every=3, seed=4)


class Argon(LennardJones):
    """Has stress, and no charges."""

    def __init__(self, **options):
        super().__init__(sigma=3.4, epsilon=0.0103, rc=8.0, smooth=True)


class OtherWater(FlexibleWater):
    """Another member of a committee."""

    def __init__(self, **options):
        super().__init__(flow=0.2, **options)
        self.BOND = 44.0


@pytest.fixture
def models(fake, monkeypatch, tmp_path):
    """Files of models, by the name of their class."""

    class Backend(fake):
        def calculator(self, model, *, device, dtype, allow_pickle=False, **options):
            kinds = {kind.__name__: kind for kind in (FlexibleWater, OtherWater, Argon)}
            return kinds[model.stem](**options)

    monkeypatch.setattr(arguments, "get_backend", lambda name: Backend())
    monkeypatch.setattr(arguments, "backend_of", lambda model: "fake")
    monkeypatch.setattr(arguments, "backend_names", lambda: ["fake"])
    monkeypatch.chdir(tmp_path)
    for name in ("FlexibleWater", "OtherWater", "Argon"):
        (tmp_path / f"{name}.pt").write_text(name)
    labelled = water_molecule()
    labelled.info["REF_energy"] = 1.0
    write("molecule.xyz", labelled)
    write("argon.xyz", crystal())
    moving = water_molecule()
    moving.set_momenta([[0, 0, 0], [0, 0.5, 0], [0, -0.5, 0]])
    write("moving.xyz", moving)
    return tmp_path


def crystal():
    return bulk("Ar", "fcc", a=5.3, cubic=True) * 2


MD = ("md", "FlexibleWater.pt", "molecule.xyz", "--steps", "12", "--every", "3")


def test_run(models, capsys):
    """Frames have charges, dipoles and momenta; labels of the beginning are gone."""
    assert cli.main([*MD, "--bec"]) == 0
    out = capsys.readouterr().out
    assert "0.006 ps, nvt, 5 frames of 3 atoms" in out
    assert "temperature: mean " in out
    assert {path.name for path in (models / "md").iterdir()} == set(FILES)
    frames = read(models / "md" / "trajectory.xyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 3, 6, 9, 12]
    assert [frame.info["time"] for frame in frames] == [0.0, 1.5, 3.0, 4.5, 6.0]
    log = np.genfromtxt(models / "md" / "log.csv", delimiter=",", names=True)
    model = FlexibleWater(bec=True)
    for frame, line in zip(frames, log, strict=True):
        assert "REF_energy" not in frame.info
        model.calculate(frame)
        # Extended XYZ files have eight digits of a position.
        np.testing.assert_allclose(frame.arrays["LES_charges"], model.results["charges"], atol=1e-6)
        np.testing.assert_allclose(frame.info["LES_dipole"], model.results["dipole"], atol=1e-6)
        bec = model.results["born_effective_charges"]
        np.testing.assert_allclose(frame.arrays["LES_born_effective_charges"], bec, atol=1e-5)
        assert line["potential_eV"] == pytest.approx(model.results["energy"], abs=1e-5)
        assert line["kinetic_eV"] == pytest.approx(frame.get_kinetic_energy(), rel=1e-5)
    assert (models / "md" / "thermo.png").read_bytes().startswith(b"\x89PNG")


def test_a_longer_run_adds(models, fails, caplog):
    assert cli.main([*MD]) == 0
    assert not caplog.records
    first = (models / "md" / "trajectory.xyz").read_text()
    assert cli.main([*MD]) == 0  # nothing is left to do
    assert "the run in md is complete: all of its 12 steps were made before" in caplog.text
    assert (models / "md" / "trajectory.xyz").read_text() == first
    longer = ("--duration", "0.0085")  # 17 steps, rounded up to 18
    assert cli.main([*MD[:3], *longer, *MD[5:]]) == 0
    found = (models / "md" / "trajectory.xyz").read_text()
    assert found.startswith(first)
    assert found.count("step=") == 7
    assert "has made 18 steps already, more than the 12" in fails(*MD)


def test_another_run(models, fails):
    assert cli.main([*MD]) == 0
    for option in (
        ("--temperature", "310"),
        ("--friction", "0.02"),
        ("--timestep", "0.25"),
        ("--every", "2"),
        ("--seed", "1"),
        ("--eps-inf", "2"),
        ("--bec",),
    ):
        name = option[0].removeprefix("--")
        assert f"of another run, with other {name}" in fails(*MD, *option).replace("--", "")
    (models / "FlexibleWater.pt").write_text("trained again")
    assert "of another run, with other models" in fails(*MD)
    assert cli.main([*MD, "--force"]) == 0
    assert len(read(models / "md" / "trajectory.xyz", ":")) == 5
    (models / "md" / "checkpoint").unlink()
    assert "trajectory.xyz exists already" in fails(*MD)


def test_a_file_that_was_cut(models, fails):
    assert cli.main([*MD]) == 0
    (models / "md" / "trajectory.xyz").write_text("")
    assert "trajectory.xyz has 0 bytes, and " in fails(*MD)
    assert cli.main([*MD, "--force"]) == 0
    assert len(read(models / "md" / "trajectory.xyz", ":")) == 5
    (models / "md" / "log.csv").unlink()
    assert cli.main([*MD, "--force"]) == 0
    assert len(np.genfromtxt(models / "md" / "log.csv", delimiter=",", names=True)) == 5


def test_force_begins_a_shorter_run(models, fails):
    """A run that can go on goes on, with ``--force`` as well."""
    assert cli.main([*MD]) == 0
    first = (models / "md" / "trajectory.xyz").read_text()
    assert cli.main([*MD[:4], "15", *MD[5:], "--force"]) == 0
    assert (models / "md" / "trajectory.xyz").read_text().startswith(first)
    shorter = (*MD[:4], "6", *MD[5:])
    assert "begin anew with --force" in fails(*shorter)
    assert cli.main([*shorter, "--force"]) == 0
    assert first.startswith((models / "md" / "trajectory.xyz").read_text())
    assert len(read(models / "md" / "trajectory.xyz", ":")) == 3


@pytest.mark.parametrize("option", [(), ("--force",)])
def test_what_is_read_is_not_replaced(models, fails, option):
    """No run begins in the file that it would write, be it its own, or one of another name."""
    assert cli.main([*MD]) == 0
    frames = models / "md" / "trajectory.xyz"
    write(frames, read(frames))
    kept = frames.read_bytes()
    (models / "link.xyz").symlink_to(frames)
    for start in ("md/trajectory.xyz", "link.xyz"):
        assert f"is what is read ({start})" in fails(*MD[:2], start, *MD[3:], *option)
    assert frames.read_bytes() == kept


SCRIPT = """
import os, signal, sys
from pathlib import Path
from les.dynamics.run import run
from les.spectra.classical import FlexibleWater, water_molecule
from tests.core.test_md import SHORT

class Killed(FlexibleWater):
    calls = 0
    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*args, **kwargs)

run(Killed(), water_molecule(), SHORT, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_is_the_same_run(tmp_path):
    """Killed between two frames, it ends with the files of one that was let alone."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run(FlexibleWater(), water_molecule(), SHORT, whole)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(killed), "9"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (killed / "trajectory.xyz").read_text().count("step=") == 3  # 0, 3, 6 of 7 steps
    with (killed / "trajectory.xyz").open("a") as file:
        file.write("3\nhalf a fra")  # what a frame would leave that was being written
    run(FlexibleWater(), water_molecule(), SHORT, killed)
    for name in ("trajectory.xyz", "log.csv"):
        assert (killed / name).read_text() == (whole / name).read_text()


class Stopped(Argon):
    """Ends with an error in one of its calls."""

    calls = 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 10:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


def test_a_barostat_goes_on(tmp_path):
    """The momentum of the volume belongs to the state."""
    plan = Plan(Ensemble("npt", 4.0, 60.0, 0.01, 2000.0, 200.0), n_steps=16, every=4)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    whole.mkdir()
    pieces.mkdir()
    end = run(Argon(), crystal(), plan, whole)
    assert abs(end.get_volume() / crystal().get_volume() - 1.0) > 1e-5
    with pytest.raises(KeyboardInterrupt):
        run(Stopped(), crystal(), plan, pieces)
    run(Argon(), crystal(), plan, pieces)
    assert (pieces / "log.csv").read_text() == (whole / "log.csv").read_text()


class Gas(Calculator):
    """Atoms that do not see one another, in a volume with an energy of its own."""

    implemented_properties = ("energy", "forces", "stress")
    BULK, VOLUME = 0.01, 2000.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        strain = atoms.get_volume() / self.VOLUME - 1.0
        self.results = {
            "energy": 0.5 * self.BULK * self.VOLUME * strain**2,
            "forces": np.zeros((len(atoms), 3)),
            "stress": self.BULK * strain * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        }


def test_the_barostat_samples_what_it_should():
    """Volumes and temperatures have the means of the distribution, which is known."""
    atoms = Atoms("Ar16", np.random.default_rng(0).uniform(0.0, 12.0, (16, 3)), cell=3 * [12.6])
    atoms.pbc = True
    pressure = 2000.0
    motion = Motion(Gas(), atoms, temperature=300.0, seed=0)
    ensemble = Ensemble("npt", 5.0, 300.0, 0.02, pressure, 100.0)
    motion.advance(ensemble, 200)
    found: dict[str, list[float]] = {"volume": [], "temperature": []}
    for _ in range(500):
        motion.advance(ensemble, 4)
        found["volume"].append(motion.atoms.get_volume())
        kinetic = motion.atoms.get_kinetic_energy()
        found["temperature"].append(2.0 * kinetic / (3 * len(atoms) * units.kB))
    volumes = np.linspace(600.0, 3600.0, 4001)
    energy = 0.5 * Gas.BULK * Gas.VOLUME * (volumes / Gas.VOLUME - 1.0) ** 2
    energy = energy + pressure * units.bar * volumes
    logarithm = len(atoms) * np.log(volumes) - energy / (300.0 * units.kB)
    weights = np.exp(logarithm - logarithm.max())
    expected = (weights * volumes).sum() / weights.sum()
    assert expected < 0.93 * Gas.VOLUME  # the pressure matters
    for name, mean in (("volume", expected), ("temperature", 300.0)):
        blocks = np.array([part.mean() for part in np.array_split(found[name], 10)])
        error = blocks.std(ddof=1) / np.sqrt(len(blocks))
        assert error < 0.02 * mean
        assert blocks.mean() == pytest.approx(mean, abs=4.0 * error)


def test_nve(models, capsys):
    """Energy is conserved; velocities are those that are there."""
    command = ("md", "FlexibleWater.pt", "moving.xyz", "--ensemble", "nve", "--timestep", "0.1")
    assert cli.main([*command, "--steps", "200", "--every", "20"]) == 0
    assert "drift of the total energy: " in capsys.readouterr().out
    log = np.genfromtxt(models / "md" / "log.csv", delimiter=",", names=True)
    np.testing.assert_allclose(log["total_eV"], log["total_eV"][0], atol=1e-4)
    assert np.ptp(log["kinetic_eV"]) > 1e-2
    assert log["kinetic_eV"][0] == pytest.approx(read("moving.xyz").get_kinetic_energy())


def test_skin(models, monkeypatch):
    """All members get it where it is given; results do not depend on it, so it may change."""
    given = []

    class Recorded(FlexibleWater):
        def __init__(self, **options):
            given.append(options.pop("skin", None))
            super().__init__(**options)

    monkeypatch.setattr(sys.modules[__name__], "FlexibleWater", Recorded)
    (models / "Recorded.pt").write_text("Recorded")
    command = ("md", "Recorded.pt", "Recorded.pt", *MD[2:])
    assert cli.main([*command]) == 0
    assert cli.main([*command[:4], "--steps", "15", *MD[5:], "--skin", "0.5"]) == 0
    assert given == [None, None, 0.5, 0.5]


def test_committee(models):
    """The mean moves the atoms; deviations are written beside it."""
    both = ("md", "FlexibleWater.pt", "OtherWater.pt", *MD[2:])
    assert cli.main([*both]) == 0
    last = read(models / "md" / "trajectory.xyz")
    forces = []
    for member in (FlexibleWater(), OtherWater()):
        member.calculate(last)
        forces.append(member.results["forces"])
    np.testing.assert_allclose(last.arrays["LES_forces"], np.mean(forces, axis=0), atol=1e-5)
    spread = np.std(forces, axis=0)
    np.testing.assert_allclose(last.arrays["LES_forces_std"], spread, atol=1e-5)
    log = np.genfromtxt(models / "md" / "log.csv", delimiter=",", names=True, deletechars="")
    largest = np.linalg.norm(spread, axis=1).max()
    assert log["largest_force_std_eV_per_A"][-1] == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*MD, "--ensemble", "npt"), "npt needs a cell with three periodic axes, got 0 periodic"),
        ((*MD, "--timestep", "-1"), "`timestep` must be a positive time in fs, got -1"),
        ((*MD, "--temperature", "-300"), "`temperature` must be a positive number, got -300"),
        ((*MD, "--friction", "0"), "`friction` must be a positive number, got 0"),
        ((*MD, "--temperature", "nan"), "`temperature` must be a finite number, got nan"),
        ((*MD, "--pressure", "1"), "`pressure` has no effect in the ensemble nvt"),
        ((*MD, "--ensemble", "nve", "--friction", "1"), "`friction` has no effect in the ensemb"),
        ((*MD, "--every", "0"), "`every` must be a whole number from 1 on, got 0"),
        ((*MD, "--every", "5"), "must be a multiple of `every` = 5, from one frame to the next"),
        ((*MD, "--seed", "-1"), "`seed` must be a whole number from 0 on, got -1"),
        (("md", *MD[1:3], "--duration", "0"), "`duration` must be a positive time in ps, got 0"),
        ((*MD, "--ensemble", "nve"), "no velocities: a `temperature` is needed to draw them"),
        (("md", "FlexibleWater.pt", "--steps", "100"), "les md needs a model file, and then a"),
        (("md", "FlexibleWater.pt", "none.xyz", "--steps", "100"), "none.xyz: there is no such"),
        (
            ("md", "FlexibleWater.pt", "moving.xyz", *MD[3:], "--ensemble", "nve")
            + ("--temperature", "300"),
            "`temperature` has no effect: the structure has velocities",
        ),
    ],
)
def test_bad_input(models, fails, argv, message):
    assert message in fails(*argv)
    assert not (models / "md").exists()


def test_a_structure_without_an_energy(models, fails, monkeypatch):
    """That is a periodic one in a field that the model takes; others are moved."""

    def of_a_model_that_takes_a_field(_, atoms):
        return has_energy(atoms, external_field(atoms))

    monkeypatch.setattr(Argon, "has_energy", of_a_model_that_takes_a_field, raising=False)
    assert (
        cli.main(["md", "Argon.pt", "argon.xyz", "--steps", "1", "--every", "1", "-o", "no"]) == 0
    )
    atoms = crystal()
    atoms.info["external_field"] = np.array([0.0, 0.0, 0.1])
    write("in_field.xyz", atoms)
    message = fails("md", "Argon.pt", "in_field.xyz", "--steps", "100")
    assert "the structure is periodic and in an external field, and has no energy" in message
    assert "Take the field out of atoms.info" in message
    assert not (models / "md").exists()


def test_structures_without_a_pressure(models, fails):
    npt = ("--ensemble", "npt", "--steps", "100")
    slab = crystal()
    slab.pbc = (True, True, False)
    write("slab.xyz", slab)
    assert "got 2 periodic axes" in fails("md", "Argon.pt", "slab.xyz", *npt)
    write("box.xyz", water_box())
    assert "needs a model with stress" in fails("md", "FlexibleWater.pt", "box.xyz", *npt)
    write("two.xyz", [crystal(), crystal()])
    message = fails("md", "Argon.pt", "two.xyz", "--steps", "100")
    assert "two.xyz: one structure is wanted, got 2" in message
    assert not (models / "md").exists()


def test_an_unstable_run(models, fails):
    """The step is named, and what to do; what was written before stays."""
    argv = ("md", "FlexibleWater.pt", "moving.xyz", "--steps", "100", "--every", "1")
    message = fails(*argv, "--timestep", "30")
    assert message.startswith("step ")
    assert "the run is unstable: try a shorter time step than 30 fs" in message
    assert read(models / "md" / "trajectory.xyz", 0).info["step"] == 0


def test_what_is_not_finite_is_unstable():
    class Broken(FlexibleWater):
        def evaluate(self, atoms, properties, system_changes):
            super().evaluate(atoms, properties, system_changes)
            self.results["forces"] *= np.nan

    motion = Motion(Broken(), water_molecule(), temperature=300.0, seed=0)
    with pytest.raises(UnstableError, match=r"step 1: the model gives NaN .* forces"):
        motion.advance(NVT, 1)


def test_fixed_atoms(tmp_path):
    """They stay where they are, and the temperature is that of the others."""
    atoms = crystal()
    atoms.set_constraint(FixAtoms(range(16)))
    plan = Plan(Ensemble("nvt", 4.0, 40.0, 0.05), n_steps=20, every=10)
    end = run(Argon(), atoms, plan, tmp_path)
    np.testing.assert_array_equal(end.positions[:16], atoms.positions[:16])
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    free = 2.0 * log["kinetic_eV"] / (units.kB * 3 * (len(atoms) - 16))
    np.testing.assert_allclose(log["temperature_K"], free)
    with pytest.raises(ValueError, match="npt cannot keep constraints"):
        Ensemble("npt", 4.0, 40.0, 0.05, 1.0, 100.0).check(atoms, Argon())


def test_total_charges_go_on(tmp_path):
    """A structure's charge is in every frame, for what reads them."""
    atoms = water_molecule()
    atoms.info.update(charge=0, name="start")
    run(FlexibleWater(), atoms, SHORT, tmp_path)
    infos = [frame.info for frame in read(tmp_path / "trajectory.xyz", ":")]
    assert all(info["charge"] == 0 and "name" not in info for info in infos)


class Reader(Argon):
    """Reads an entry of its own, as if energies depended on it."""

    used_labels = ("solvent",)


def test_fragments_go_on(tmp_path):
    """So do entries that the model reads: they belong to what is moved."""
    atoms = in_fragments(Atoms("OH2" * 2, np.random.default_rng(0).uniform(0.0, 9.0, (6, 3))))
    atoms.info.update(solvent="water", REF_energy=1.0)
    seen = without_labels(atoms, Reader.used_labels)
    assert seen.info == {"solvent": "water"}
    for name in ("fragment", "fragment_charge"):
        np.testing.assert_array_equal(seen.arrays[name], atoms.arrays[name])


CHANGES = {
    "masses": lambda atoms: atoms.set_masses([20.0, *atoms.get_masses()[1:]]),
    "momenta": lambda atoms: atoms.set_momenta(np.ones((len(atoms), 3))),
    "constraints": lambda atoms: atoms.set_constraint(FixAtoms([1])),
    "other constraints": lambda atoms: atoms.set_constraint(FixCartesian([1], [True, False, True])),
    "charge": lambda atoms: atoms.info.update(charge=1),
    "field": lambda atoms: atoms.info.update(external_field=np.array([0.0, 0.0, 0.1])),
    "own entry": lambda atoms: atoms.info.update(solvent="water"),
    "fragments": lambda atoms: atoms.set_array("fragment", np.arange(len(atoms))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_structure(change, tmp_path):
    """A run does not go on with atoms that move in another way; it does with the same ones."""
    plan = Plan(Ensemble("nve", 1.0), n_steps=1, every=1, temperature=10.0)
    atoms = Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, 3.8]])
    if change is CHANGES["momenta"]:
        plan = Plan(Ensemble("nvt", 1.0, 10.0, 0.01), n_steps=1, every=1)
    elif change is CHANGES["other constraints"]:
        atoms.set_constraint(FixCartesian([1], [True, True, False]))
    run(Reader(), atoms, plan, tmp_path)
    run(Reader(), atoms.copy(), plan, tmp_path)
    change(atoms)
    with pytest.raises(ValueError, match="of another run, with other structure"):
        run(Reader(), atoms, plan, tmp_path)
    (tmp_path / "checkpoint").unlink()
    run(Reader(), atoms, plan, tmp_path)
    run(Reader(), atoms, plan, tmp_path)  # what was changed is known again


def test_only_one_run_at_a_time(tmp_path):
    from les.locks import locked

    with locked(tmp_path), pytest.raises(OSError, match="is in use"):
        run(FlexibleWater(), Atoms("OH2", water_molecule().positions), SHORT, tmp_path)
