"""Configurations: rattles, molecules at other densities, scans, and molecular dynamics."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from les.data.fragments import fragments
from les.data.fragments import molecules as molecule_labels
from les.distillation import configurations, dynamics
from les.distillation.molecules import at_density, whole_molecules
from les.distillation.provenance import plain
from les.distillation.recipe import Settings
from les.distillation.scans import scans
from les.distillation.settings import DynamicsSettings, LimitSettings, ScanSettings
from les.distillation.teachers import load_teacher
from les.predict.journal import Journal
from les.testing.fragments import in_fragments

STUDENT = {"backend": "mace", "config": "mace/water"}
LJ = "ase.calculators.lj:LennardJones"


@pytest.fixture
def teacher():
    """Bonds of about 0.95 A."""
    return load_teacher(LJ, {"sigma": 0.85, "epsilon": 0.5, "rc": 4.0, "smooth": True})


@pytest.fixture
def liquid():
    """Two water molecules in a cell, one of them cut by its boundary."""
    water = molecule("H2O")
    box = water.copy()
    box.positions += [2.0, 3.0, 3.0]
    other = water.copy()
    other.rotate(70.0, (1, 2, 3))
    other.positions += [5.0, 0.1, 0.1]
    box += other
    box.set_cell([6.0, 6.0, 6.0])
    box.pbc = True
    box.wrap()
    return box


@pytest.fixture
def journal_of(tmp_path):
    """A function that opens a journal, which is closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_journal(name):
            return stack.enter_context(contextlib.closing(Journal(tmp_path / name, plain({}))))

        yield open_journal


def settings_of(folder, **plan):
    values = {"teachers": [LJ], "configurations": plan, "student": STUDENT, "start": ["start.xyz"]}
    if set(plan) == {"files"}:
        values.pop("start")
    return Settings.from_mapping(values, folder)


# --- molecules


def test_molecules_are_whole(liquid):
    parts = whole_molecules(liquid)
    assert [members.tolist() for members, _ in parts] == [[0, 1, 2], [3, 4, 5]]
    expected = molecule("H2O").get_all_distances()
    for _, positions in parts:
        found = np.linalg.norm(positions[:, None] - positions, axis=-1)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_molecules_are_those_of_fragments():
    """An oxygen and a hydrogen that are 1.2 A apart are bonded for both, 1.3 A apart for none."""
    for distance, n_molecules in ((1.2, 1), (1.3, 2)):
        pair = Atoms("OH", [[0, 0, 0], [0, 0, distance]])
        assert len(whole_molecules(pair)) == len(set(molecule_labels(pair))) == n_molecules


def test_a_crystal_has_no_molecules():
    assert whole_molecules(bulk("NaCl", "rocksalt", a=5.64) * 2) is None
    assert whole_molecules(bulk("Cu")) is None


def test_density_moves_molecules_as_a_whole(liquid):
    thinner = at_density(liquid, 0.8)
    assert thinner.get_volume() == pytest.approx(liquid.get_volume() / 0.8)
    for before, after in zip(whole_molecules(liquid), whole_molecules(thinner), strict=True):
        np.testing.assert_allclose(
            after[1] - after[1].mean(axis=0), before[1] - before[1].mean(axis=0), atol=1e-9
        )
    salt = bulk("NaCl", "rocksalt", a=5.64)
    np.testing.assert_allclose(
        at_density(salt, 0.8).get_scaled_positions(), salt.get_scaled_positions(), atol=1e-9
    )
    assert at_density(molecule("H2O"), 1.0) == molecule("H2O")
    with pytest.raises(ValueError, match=r"has no density to multiply by 0\.9"):
        at_density(molecule("H2O"), 0.9)


def test_scans_have_the_distances_asked_for(liquid):
    ion = Atoms("Na", info={"total_charge": 1})
    plan = ScanSettings(distances=(2.0, 3.5, 9.0), orientations=2)
    found = list(scans([liquid, ion], plan, np.random.default_rng(0)))
    assert len(found) == 3 * 2 * 3  # pairs, orientations, distances
    names = list(dict.fromkeys(name for name, _ in found))
    assert names[0] == "H2O-H2O-0"
    for number, (_, pair) in enumerate(found):
        n = 1 if pair.symbols[0] == "Na" else 3
        distances = pair.get_all_distances()
        assert distances[:n, n:].min() == pytest.approx(plan.distances[number % 3], abs=1e-6)
        assert not pair.pbc.any()
    charges = {pair.get_chemical_formula(): pair.info.get("total_charge") for _, pair in found}
    assert charges == {"H4O2": None, "H2NaO": 1, "Na2": 2}
    waters = [pair for _, pair in found if len(pair) == 6]
    expected = molecule("H2O").get_all_distances()
    np.testing.assert_allclose(waters[0].get_all_distances()[:3, :3], expected, atol=1e-9)
    assert not np.allclose(waters[0].positions, waters[3].positions)  # another orientation


def test_scans_that_cannot_be(liquid):
    with pytest.raises(ValueError, match=r"structure 0 \(ClNa\) is one network of bonds"):
        list(scans([bulk("NaCl", "rocksalt", a=5.64)], ScanSettings(), np.random.default_rng(0)))
    liquid.info["charge"] = 1
    with pytest.raises(ValueError, match="a total charge of 1 e and 2 molecules"):
        list(scans([liquid], ScanSettings(), np.random.default_rng(0)))
    del liquid.info["charge"]
    for name in ("spin", "fragment"):
        given = liquid.copy()
        if name == "spin":
            given.info["spin"] = 3
        else:
            in_fragments(given)
        with pytest.raises(ValueError, match=f"starting structure 0 has {name}: how molecules"):
            list(scans([given], ScanSettings(), np.random.default_rng(0)))


# --- dynamics

PLAN = DynamicsSettings((300.0, 400.0), (1.0,), steps=6, equilibration=3, every=2, timestep=0.2)


def test_dynamics_in_pieces_is_the_same(teacher, journal_of, monkeypatch):
    trajectories = dynamics.plan([molecule("H2O")], PLAN, seed=3)
    assert [each.name for each in trajectories] == [
        "dynamics-0-300K-density-1", "dynamics-0-400K-density-1",
    ]  # fmt: skip

    def frames(journal):
        return list(dynamics.kept_frames(trajectories, PLAN, journal))

    whole = journal_of("whole")
    dynamics.run(teacher, trajectories, PLAN, LimitSettings(), whole)
    expected = frames(whole)
    assert [(name, frame) for name, frame, _ in expected] == [
        (each.name, frame) for each in trajectories for frame in range(3)
    ]
    append = Journal.append
    for killed_at in (1, 3, 5, 7):
        journal = journal_of(f"pieces-{killed_at}")

        def dying(self, record, at=killed_at):
            if self.n_records == at:
                raise KeyboardInterrupt
            append(self, record)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", dying)
            with pytest.raises(KeyboardInterrupt):
                dynamics.run(teacher, trajectories, PLAN, LimitSettings(), journal)
        journal.close()
        again = journal_of(f"pieces-{killed_at}")
        assert again.n_records == killed_at
        dynamics.run(teacher, trajectories, PLAN, LimitSettings(), again)
        for (_, _, one), (_, _, other) in zip(expected, frames(again), strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)


def test_dynamics_keeps_the_temperature(teacher, journal_of):
    """The thermostat heats what begins cold: ten independent atoms on average."""
    plan = dataclasses.replace(PLAN, temperatures=(500.0,), steps=400, every=10, friction=0.2)
    atoms = Atoms("Ar10", np.arange(30).reshape(10, 3) * 10.0)
    trajectories = dynamics.plan([atoms], plan, seed=1)
    journal = journal_of("journal")
    dynamics.run(teacher, trajectories, plan, LimitSettings(), journal)
    found = []
    for record in journal:
        atoms.set_momenta(record["state"]["momenta"])
        found.append(atoms.get_temperature())
    # 40 frames that are 2 fs apart, correlation 5 fs: about 16 independent ones of 30 components.
    assert np.mean(found) == pytest.approx(500.0, rel=0.3)


@pytest.mark.parametrize("limits", [{"force": 0.01}, {"energy": 1e-6}, {"closeness": 1.7}])
def test_explosions_are_named(limits, teacher, journal_of):
    plan = dataclasses.replace(PLAN, temperatures=(300.0,))
    at_minimum = Atoms("H2", [[0, 0, 0], [0, 0, 0.85 * 2 ** (1 / 6)]])
    trajectories = dynamics.plan([at_minimum], plan, seed=0)
    journal = journal_of("first")
    with pytest.raises(ValueError, match=f"limits: {next(iter(limits))}") as error:
        dynamics.run(teacher, trajectories, plan, LimitSettings(**limits), journal)
    assert str(error.value).startswith("dynamics-0-300K-density-1, before step ")
    assert str(error.value).endswith("(limits: skip_bad keeps the frames before it)")
    kept = journal_of("second")
    dynamics.run(teacher, trajectories, plan, LimitSettings(**limits, skip_bad=True), kept)
    assert len(dynamics.ended_early(kept)) == 1
    assert len(list(dynamics.kept_frames(trajectories, plan, kept))) < 3
    with pytest.raises(ValueError, match="skip_bad"):
        dynamics.run(teacher, trajectories, plan, LimitSettings(), kept)


# --- all together


def test_all_sources(teacher, liquid, journal_of, tmp_path):
    water = molecule("H2O")
    water.info.update(total_charge=0, REF_energy=3.0)
    water.set_velocities(np.ones((3, 3)))
    write(tmp_path / "start.xyz", [water])
    liquid.info.update(trajectory="mine", frame=17)
    write(tmp_path / "own.xyz", [water, liquid])
    settings = settings_of(
        tmp_path,
        files="own.xyz",
        rattles={"amplitudes": [0.01, 0.1], "count": 2},
        dynamics={"steps": 4, "every": 2, "equilibration": 0, "timestep": 0.2},
        scans={"distances": [3.0, 5.0], "orientations": 1},
    )

    def made(name):
        journal = journal_of(f"{name}.journal")
        facts = configurations.make(settings, teacher, journal, tmp_path / name)
        return facts, read(tmp_path / name, ":")

    facts, found = made("a.xyz")
    assert facts == {
        "counts": {"file": 2, "rattle": 4, "dynamics": 2, "scan": 2}, "ended_early": []
    }  # fmt: skip
    places = [(atoms.info["trajectory"], atoms.info["frame"]) for atoms in found]
    assert places == [
        ("file-0", 0), ("file-0-mine", 17), ("rattle-0", 0), ("rattle-1", 0), ("rattle-2", 0),
        ("rattle-3", 0), ("dynamics-0-300K-density-1", 0), ("dynamics-0-300K-density-1", 1),
        ("scan-H2O-H2O-0", 0), ("scan-H2O-H2O-0", 1),
    ]  # fmt: skip
    assert all("REF_energy" not in atoms.info and atoms.calc is None for atoms in found)
    assert not any(atoms.has("momenta") for atoms in found)
    assert found[2].info["total_charge"] == 0
    sizes = [np.abs(atoms.positions - water.positions).max() for atoms in found[2:6]]
    assert max(sizes[:2]) < min(sizes[2:])
    made("b.xyz")
    assert (tmp_path / "a.xyz").read_bytes() == (tmp_path / "b.xyz").read_bytes()
    assert found[1].pbc.all()


def test_fragments_are_kept(teacher, liquid, journal_of, tmp_path):
    """In what comes from files, rattles and dynamics; the teacher uses them."""
    write(tmp_path / "start.xyz", in_fragments(liquid))
    write(tmp_path / "own.xyz", liquid)
    settings = settings_of(
        tmp_path,
        files="own.xyz",
        rattles={"amplitudes": [0.01], "count": 1},
        dynamics={"steps": 2, "every": 2, "equilibration": 0, "timestep": 0.2},
    )
    teacher.calculator.used_labels = {"fragment", "fragment_charge"}
    configurations.make(settings, teacher, journal_of("journal"), tmp_path / "made.xyz")
    found = read(tmp_path / "made.xyz", ":")
    assert [atoms.info["origin"] for atoms in found] == ["file", "rattle", "dynamics"]
    for atoms in found:
        kept = fragments(atoms)
        assert atoms.arrays["fragment"].tolist() == [3, 3, 3, 1, 1, 1]
        assert kept.charges.tolist() == [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]


@pytest.mark.parametrize("name", ["start.xyz", "own.xyz"])
def test_a_field_would_be_lost(name, journal_of, tmp_path):
    for each in ("start.xyz", "own.xyz"):
        write(tmp_path / each, molecule("H2O"))
    water = molecule("H2O")
    water.info["electric_field"] = [0.0, 0.0, 0.1]
    write(tmp_path / name, [molecule("H2O"), water])
    settings = settings_of(tmp_path, rattles={"count": 1}, files="own.xyz")
    with pytest.raises(ValueError, match=f"{name}: frame 1: it has electric_field=.* not keep"):
        configurations.make(settings, None, journal_of("journal"), tmp_path / "made.xyz")


def test_starts_with_atoms_too_close(tmp_path):
    bad = molecule("H2O")
    bad.positions[2] = bad.positions[1] + 0.05
    write(tmp_path / "start.xyz", [molecule("H2O"), bad])
    with pytest.raises(ValueError, match=r"start.xyz: frame 1: atoms 1 \(H\) and 2 \(H\) are"):
        configurations.read_starts(settings_of(tmp_path, rattles={}))
