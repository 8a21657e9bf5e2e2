"""Rounds of active learning: what is explored, chosen, labelled and learned, and when they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import read, write

from les.backends.committee import Committee
from les.backends.interface import Backend
from les.distillation import (
    card,
    evaluation,
    exploration,
    labels,
    rounds,
    rounds_table,
    student,
    trials,
)
from les.distillation.configurations import FRAME, TRAJECTORY
from les.distillation.provenance import Record
from les.distillation.recipe import Settings
from les.distillation.running import run
from les.distillation.settings import RoundSettings, SplitSettings
from les.distillation.split import split
from les.distillation.stages import Distillation
from les.files import checksum

TEACHER = {
    "teacher": "ase.calculators.lj:LennardJones",
    "name": "lj",
    "options": {"sigma": 0.85, "epsilon": 0.5, "rc": 4.0, "smooth": True},
}
SETTINGS = {
    "teachers": [TEACHER],
    "start": "start.xyz",
    "configurations": {"rattles": {"amplitudes": [0.03], "count": 10}},
    "split": {"block": 1, "gap": 0},
    "student": {"backend": "mace", "config": "mace/water"},
    "rounds": {
        "count": 3, "members": 3, "spread": 0.02, "frames": 3,
        "dynamics": {"steps": 12, "every": 2, "equilibration": 2, "timestep": 0.2},
    },
}  # fmt: skip


def learned(model):
    """A student: the teacher with another depth, which is the nearer the more it has learned."""
    options = {**TEACHER["options"], **torch.load(model, weights_only=True)}
    return LennardJones(**options)


@pytest.fixture(autouse=True)
def students(monkeypatch):
    """Students that learn at once: the error of each falls with the size of its training set."""
    trained = []

    def train(job, settings, label):
        n = len(read(job.train_file, ":"))
        trained.append(label)
        job.directory.mkdir(parents=True, exist_ok=True)
        model = job.directory / "student.pt"
        torch.save({"epsilon": 0.5 + 8.0 * settings.seed * (2 - settings.les) / n**2}, model)
        return model

    def load_calculator(backend, model, **options):
        return learned(model)

    monkeypatch.setattr(student, "train", train)
    for module in (card, evaluation, rounds):
        monkeypatch.setattr(module, "load_calculator", load_calculator)
    monkeypatch.setattr(Backend, "require", lambda self: None)
    return trained


@pytest.fixture
def distillation(tmp_path):
    """A function for what is to be made in a folder of its own, with other settings of rounds."""
    write(tmp_path / "start.xyz", molecule("H2O"))

    def make(name="out", student=(), **changes):
        source = tmp_path / "distill.yaml"
        settings = {**SETTINGS, "rounds": {**SETTINGS["rounds"], **changes}}
        settings["student"] = {**SETTINGS["student"], **dict(student)}
        source.write_text(yaml.safe_dump(settings))
        (tmp_path / name).mkdir(exist_ok=True)
        return Distillation(Settings.from_yaml(source), tmp_path / name, source)

    return make


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [*folder.rglob("*.xyz"), folder / "rounds.json"]
    }


def test_rounds_end_where_the_committee_agrees(distillation, students):
    made = distillation(count=8, spread=0.05, frames=4)
    table = run(made, lambda text: None)
    log = json.loads((made.folder / "rounds.json").read_text())
    rows = log["rounds"]
    assert 1 < len(rows) < 9  # some rounds, not all
    assert "the committee agrees" in log["ending"]
    assert log["ending"] in table
    last = made.last("lj")
    assert last.number == len(rows) - 1
    assert made.model("lj") == last.folder / "student" / "student.pt"
    for number, row in enumerate(rows):
        assert row["round"] == number
        if number == 0:
            continue
        folder = made.folder / "lj" / f"round-{number}"
        labelled = read(folder / "labels.xyz", ":")
        assert row["n_labelled"] == row["exploration"]["n_chosen"] == len(labelled) <= 4
        assert row["exploration"]["n_above"] > 0
        # What is new is in the sets, and what was there stays.
        before = made.folder / "lj" / (f"round-{number - 1}" if number > 1 else "")
        sizes = [
            sum(len(read(each / f"{name}.xyz", ":")) for name in ("train", "valid"))
            for each in (before, folder)
        ]
        assert sizes[1] == sizes[0] + len(labelled)
        for atoms in labelled:
            bare = atoms.copy()
            bare.calc = LennardJones(**TEACHER["options"])
            np.testing.assert_allclose(atoms.arrays["REF_forces"], bare.get_forces(), atol=1e-7)
    errors = [row["errors"]["forces"]["rmse"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    n_trained = len(students)
    assert run(made, lambda text: None) == table
    assert len(students) == n_trained


def test_rounds_go_on_after_an_interruption_at_any_stage(distillation, monkeypatch):
    whole = distillation("whole", count=1)
    run(whole, lambda text: None)
    made = distillation("interrupted", count=1)
    run(replace(made, settings=made.settings.with_rounds(0)), lambda text: None)
    finish, interrupted = Record.finish, []

    def interrupt(self, files, **facts):
        if self.path not in interrupted:  # each stage once, after its work and before its record
            interrupted.append(self.path)
            raise KeyboardInterrupt
        finish(self, files, **facts)

    monkeypatch.setattr(Record, "finish", interrupt)
    stages = {"exploration", "labels", "sets", "training", "before", "evaluation"}
    for _ in range(len(stages) + 2):  # and two further members
        with pytest.raises(KeyboardInterrupt):
            run(made, lambda text: None)
    run(made, lambda text: None)
    assert {path.stem for path in interrupted} == {
        *stages, "member-2-training", "member-3-training",
    }  # fmt: skip
    assert content(made.folder) == content(whole.folder)
    assert not list(made.folder.rglob("*.journal"))


def test_more_rounds_go_on_where_fewer_ended(distillation, students):
    run(distillation(count=1), lambda text: None)
    n_trained = len(students)
    made = distillation(count=2)
    run(made, lambda text: None)
    assert made.last("lj").number == 2
    # Two further members of round 1, and the student of round 2.
    assert len(students) == n_trained + 3


def test_rounds_of_an_earlier_run_do_not_count(distillation):
    run(distillation(count=2), lambda text: None)
    for count in (1, 0):
        made = distillation(count=count)
        run(made, lambda text: None)
        assert made.last("lj").number == count
        assert (made.folder / "lj" / "round-2" / "evaluation.json").is_file()
    made = distillation(count=2)
    run(made, lambda text: None)
    assert made.last("lj").number == 2
    (made.folder / "rounds.json").unlink()  # as after stages one by one
    (made.folder / "lj" / "train.xyz").write_bytes((made.folder / "lj" / "test.xyz").read_bytes())
    assert made.last("lj").number == 0


def test_a_round_without_labels_is_the_last(distillation, monkeypatch):
    made = distillation(count=2)
    label = labels.label

    def labelled(teacher, structures, output, limits, **options):
        if structures.name == "explored.xyz":
            limits = replace(limits, force=1e-9)
        return label(teacher, structures, output, limits, **options)

    monkeypatch.setattr(labels, "label", labelled)
    table = run(made, lambda text: None)
    assert "ended in round 1: the teacher can label no new frame" in table
    assert made.last("lj").number == 0
    assert "lj" in json.loads((made.folder / "results.json").read_text())
    assert run(made, lambda text: None) == table


def test_an_exploration_that_explodes_is_no_agreement():
    settings = RoundSettings(spread=0.5)
    found = {"n_frames": 3, "largest_spread": 0.1, "ended_early": ["too hot"]}
    assert "agrees" not in rounds_table.verdict(found, settings)
    assert "ended early: too hot" in rounds_table.verdict(found, settings)
    assert "agrees" in rounds_table.verdict({**found, "ended_early": []}, settings)


def test_an_exploration_without_frames_is_refused(distillation, tmp_path):
    made = distillation()
    settings = replace(made.settings, limits=replace(made.settings.limits, force=1e-9))
    members = [LennardJones(**{**TEACHER["options"], "epsilon": each}) for each in (0.4, 0.5)]
    with pytest.raises(ValueError, match="exploration of round 1 has come to no frame: "):
        exploration.explore(
            Committee(members), ["a", "b"], settings, settings.rounds, 1, tmp_path / "explored.xyz"
        )


def test_new_frames_are_divided_by_blocks():
    frames = []
    for number in range(40):
        atoms = molecule("H2O")
        atoms.info = {TRAJECTORY: f"round-1-{number // 20}", FRAME: number % 20}
        frames.append(atoms)
    settings = SplitSettings(valid=0.25, block=5, gap=1)
    sets, left_out = split(frames, settings, (0, 1), further=True)
    assert not sets["test"]
    assert sorted([*sets["train"], *sets["valid"], *left_out]) == list(range(40))
    assert sets["valid"]
    for n in sets["valid"]:
        for other in sets["train"]:
            assert n // 20 != other // 20 or abs(n - other) > 1
    assert split(frames[:1], settings, 0, further=True)[0]["train"] == [0]


NOTES = {
    "for": "tests", "reference": "a pair potential", "licence": "MIT", "summary": "A summary.",
    "validity": ["Nowhere."],
}  # fmt: skip


def test_a_twin_and_the_cards(distillation, tmp_path, monkeypatch):
    monkeypatch.setattr("les.distillation.trials.LARGEST_DRIFT", 0.1)  # hot for a pair potential
    made = distillation(count=1, student={"twin": True, "epochs": 3})
    run(made, lambda text: None)
    results = json.loads((made.folder / "results.json").read_text())
    with_les, without = results["lj"], results["lj, without LES"]
    assert with_les["student"]["les"] is True
    assert without["student"]["les"] is False
    assert without["errors"]["forces"]["rmse"] > 1.9 * with_les["errors"]["forces"]["rmse"]
    latest = made.last("lj")
    assert latest.number == 1
    assert latest.twin.model.parent.parent == latest.folder  # on the sets of the last round
    target = tmp_path / "models"
    written = card.write_models(made, "lj", NOTES, "les-lj", target)
    assert [path.name for path in written] == ["les-lj.pt", "les-lj-sr.pt"]
    for path, student_of in zip(written, (latest.student, latest.twin), strict=True):
        assert path.read_bytes() == student_of.model.read_bytes()
        facts = json.loads(path.with_suffix(".json").read_text())
        assert facts["checksum"] == checksum(path)
        assert facts["data"]["rounds"] == 1
        text = path.with_suffix(".md").read_text()
        for said in ("A summary.", "Nowhere.", "MIT", "LennardJones", "| les-lj | les-lj-sr |"):
            assert said in text
        assert str(tmp_path) not in text + path.with_suffix(".json").read_text()
    assert "without LES" in (target / "les-lj-sr.md").read_text()
    with pytest.raises(ValueError, match="the notes of a card must have `licence`, got"):
        card.write_models(made, "lj", {**NOTES, "licence": ""}, "les-lj", target)


def test_names_of_models_tell_the_backend_and_are_found(distillation, tmp_path):
    for backend, ending in (("nequip", ".nequip.pt"), ("nequip", ".ckpt"), ("mace", ".pt")):
        made = distillation(student={"backend": backend}).last("lj").student
        training = made.folder / f"student{ending}"
        training.parent.mkdir(exist_ok=True)
        training.touch()
        record = Record(made.record, {}, replace=True)
        record.finish([training], model=training.name)
        assert card.ending(made) == ending
    with pytest.raises(ValueError, match=r"must have no dot.*got 'water-1\.0'"):
        card.write_models(distillation(), "lj", NOTES, "water-1.0", tmp_path / "models")


class Charged(LennardJones):
    """A pair potential of an ion, whose charges are those of a model."""

    uses_total_charge = True
    charges = (0.5, 0.25, 0.25)

    def total_charge(self, atoms):
        return float(atoms.info.get("charge", 0.0))

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results["charges"] = np.array(self.charges)


def test_charges_of_a_trial_sum_to_the_total_charge(monkeypatch):
    monkeypatch.setattr(trials, "LARGEST_DRIFT", 0.1)
    calculator, atoms = Charged(**TEACHER["options"]), molecule("H2O")
    atoms.info["charge"] = 1
    assert trials.trials(calculator, atoms)["total_charge"] < 1e-12
    atoms.info["charge"] = 0
    with pytest.raises(ValueError, match="charges must sum to the total charge, 0 e, got 1 e"):
        trials.trials(calculator, atoms)
    # Those of a model whose charges sum to nothing in particular are free.
    calculator.uses_total_charge = False
    assert "total_charge" not in trials.trials(calculator, atoms)


def test_a_model_that_drifts_gets_no_card(distillation, tmp_path, monkeypatch):
    made = distillation(count=0)
    run(made, lambda text: None)
    monkeypatch.setattr("les.distillation.trials.LARGEST_DRIFT", 1e-12)
    with pytest.raises(ValueError, match="the total energy drifts by"):
        card.write_models(made, "lj", NOTES, "les-lj", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.slow
def test_a_killed_exploration_goes_on(tmp_path):
    """After kill -9 the pieces of trajectories that were there are not moved through again."""
    write(tmp_path / "start.xyz", molecule("H2O"))
    (tmp_path / "explorer.py").write_text(
        """
import os, signal, sys
from pathlib import Path
from ase.calculators.lj import LennardJones
from les.backends.committee import Committee
from les.distillation.exploration import explore
from les.distillation.recipe import Settings

class Mortal(LennardJones):
    calls = 0
    def calculate(self, *arguments, **options):
        Mortal.calls += 1
        if Mortal.calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **options)

here = Path(__file__).parent
settings = Settings.from_yaml(here / "distill.yaml")
options = dict(sigma=0.85, rc=4.0, smooth=True)
committee = Committee([Mortal(epsilon=0.5, **options), LennardJones(epsilon=0.7, **options)])
output = here / sys.argv[2]
print(explore(committee, ["one", "two"], settings, settings.rounds, 1, output), Mortal.calls)
"""
    )
    (tmp_path / "distill.yaml").write_text(yaml.safe_dump(SETTINGS))

    def explored(dies_at, output):
        command = [sys.executable, str(tmp_path / "explorer.py"), str(dies_at), output]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)

    whole = explored(0, "whole.xyz")
    assert whole.returncode == 0, whole.stderr
    killed = explored(9, "killed.xyz")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = explored(0, "killed.xyz")
    assert again.returncode == 0, again.stderr
    facts, calls = (each.stdout.rsplit(" ", 1) for each in (whole, again))
    assert facts[0] == calls[0]
    assert int(calls[1]) < int(facts[1])
    for one, other in zip(
        read(tmp_path / "whole.xyz", ":"), read(tmp_path / "killed.xyz", ":"), strict=True
    ):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_the_spread_is_that_of_the_members():
    atoms = molecule("H2O")
    depths = (0.4, 0.5, 0.7)
    members = [LennardJones(**{**TEACHER["options"], "epsilon": each}) for each in depths]
    explorer = exploration.Teacher(Committee(members), {})
    unit = LennardJones(**{**TEACHER["options"], "epsilon": 1.0})
    forces = unit.get_forces(atoms)
    expected = np.std(depths, ddof=1) * np.linalg.norm(forces, axis=1).max()
    assert exploration.spread(explorer, atoms) == pytest.approx(expected, rel=1e-10)


def test_frames_are_chosen_apart():
    frames = []
    for trajectory in ("a", "b"):
        for frame in range(6):
            atoms = molecule("H2O")
            atoms.positions[1] += 0.02 * frame
            atoms.info = {TRAJECTORY: trajectory, FRAME: frame}
            frames.append(atoms)
    spreads = [0.1, 0.5, 0.6, 0.5, 0.1, 0.4] + [0.1] * 6
    settings = RoundSettings(spread=0.3, frames=5, gap=1)
    assert exploration.choose(frames, spreads, settings, 6.0, 0) == [2, 5]
    settings = RoundSettings(spread=0.3, frames=5, gap=0)
    assert exploration.choose(frames, spreads, settings, 6.0, 0) == [1, 2, 3, 5]
    settings = RoundSettings(spread=0.05, frames=4, gap=0)
    chosen = exploration.choose(frames, spreads, settings, 6.0, 0)
    assert len(chosen) == 4
    # Those of two trajectories are alike: none of the chosen ones is a copy of another.
    assert len({n % 6 for n in chosen}) == 4
    settings = RoundSettings(spread=0.7, frames=4)
    assert exploration.choose(frames, spreads, settings, 6.0, 0) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": [TEACHER, {**TEACHER, "name": "other"}]}, "rounds are of one teacher, got 2"),
        ({"rounds": {"members": 1}}, "rounds: `members` must be a whole number of at least 2"),
        ({"rounds": {"bar": 1}}, "rounds: unknown"),
        ({"start": [], "configurations": {"files": ["a.xyz"]}}, "rounds need `start`"),
        ({"student": {"backend": "mace", "config": "x", "les": False, "twin": True}},
         "student: `twin` is a student without LES"),
    ],
)  # fmt: skip
def test_refused_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings.from_mapping({**SETTINGS, **changes})


def test_rounds_of_the_command_line():
    settings = Settings.from_mapping({**SETTINGS, "rounds": None})
    assert settings.rounds is None
    assert settings.with_rounds(4).rounds == RoundSettings(count=4)
    with pytest.raises(ValueError, match="`--rounds` must be a whole number of at least 0, got -1"):
        settings.with_rounds(-1)
