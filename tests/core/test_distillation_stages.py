"""Stages of a distillation: what they leave, killed processes, and changed settings and files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.io import read, write

from les import cli
from les.distillation.provenance import Record
from les.distillation.recipe import Settings
from les.distillation.stages import KEPT, Distillation
from les.files import checksum
from les.locks import locked

#: A teacher that kills its process, so that nothing can be tidied, once there is no file `alive`.
TEACHER = """
import os, signal
from pathlib import Path
from ase.calculators.lj import LennardJones

class Mortal(LennardJones):
    calls = 0
    def calculate(self, *arguments, **options):
        self.calls += 1
        dies_at = Path(__file__).with_name("dies_at")
        if dies_at.exists() and self.calls == int(dies_at.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **options)

def make():
    return Mortal(sigma=0.85, epsilon=0.5, rc=4.0, smooth=True)
"""
SETTINGS = {
    "teachers": [{"teacher": "mortal:make", "name": "lj"}],
    "start": "start.xyz",
    "configurations": {
        "rattles": {"amplitudes": [0.02], "count": 6},
        "dynamics": {"steps": 6, "every": 2, "equilibration": 2, "timestep": 0.2},
    },
    "selection": {"count": 7},
    "split": {"block": 1, "gap": 0},
    "student": {"backend": "mace", "config": "mace/water"},
}
STEPS = (("configurations", ""), ("selection", ""), ("labels", "lj"), ("split", "lj"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the teacher, a start and settings."""
    (tmp_path / "mortal.py").write_text(TEACHER)
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "start.xyz", molecule("H2O"))
    (tmp_path / "distill.yaml").write_text(yaml.safe_dump(SETTINGS))
    yield tmp_path
    sys.modules.pop("mortal", None)


@pytest.fixture
def distillation(folder):
    """A function for what is to be made in a folder of its own, with changed settings."""

    def make(name="out", force=False, **changes):
        source = folder / "distill.yaml"
        source.write_text(yaml.safe_dump({**SETTINGS, **changes}))
        (folder / name).mkdir(exist_ok=True)
        return Distillation(Settings.from_yaml(source), folder / name, source, force)

    return make


def perform(distillation, steps=STEPS):
    return [distillation.perform(*step) for step in steps]


def content(folder):
    """All files of a folder but the records, which have a time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.xyz"))
    }  # fmt: skip


def test_what_stages_leave(distillation, folder):
    made = distillation()
    assert perform(made) == [True] * 4
    assert perform(made) == [False] * 4
    files = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*.*")}
    assert files == {
        "configurations.xyz", "configurations.json", "chosen.xyz", "selection.json",
        *(f"lj/{name}" for name in (
            "labels.xyz", "labels.json", "train.xyz", "valid.xyz", "test.xyz", "split.json",
        )),
    }  # fmt: skip
    record = json.loads((made.folder / "lj" / "labels.json").read_text())
    assert record["files"] == {"labels.xyz": checksum(made.folder / "lj" / "labels.xyz")}
    assert record["depends_on"]["structures"] == checksum(made.folder / "chosen.xyz")
    assert record["facts"]["teacher"]["checksum"] == checksum(folder / "mortal.py")
    assert record["facts"]["n_labelled"] == 7
    assert "version" in record["facts"]["teacher"]
    again = distillation("again")
    perform(again)
    assert content(made.folder) == content(again.folder)
    other = distillation("other", seed=1)
    perform(other)
    assert content(made.folder) != content(other.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize(("stage", "dies_at"), [("configurations", 8), ("labels", 9)])
def test_killed_stages_go_on(stage, dies_at, distillation, folder):
    """After kill -9 the same command gives the same files, and repeats nothing that was done."""
    whole = distillation("whole")
    perform(whole)
    made = distillation("killed")
    number = [name for name, _ in STEPS].index(stage)
    perform(made, STEPS[:number])
    (folder / "dies_at").write_text(str(dies_at))
    teacher = ["--teacher", "lj"] if stage == "labels" else []
    command = ["-m", "les", "distill", "stage", str(made.source), stage, "-o", str(made.folder)]
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, *command, *teacher],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        capture_output=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    (journal,) = made.folder.rglob("*.journal")
    assert journal.read_bytes().count(b"\n") > 2  # the first says whose it is
    (folder / "dies_at").unlink()
    perform(made)
    assert content(made.folder) == content(whole.folder)
    assert not list(made.folder.rglob("*.journal"))


def test_other_settings_are_refused(distillation):
    made = distillation()
    perform(made)
    with pytest.raises(ValueError, match=r"selection.json is of a run with other selection; "):
        perform(distillation(selection={"count": 6}))
    with pytest.raises(ValueError, match=r"labels.json is of a run with other limits; "):
        perform(distillation(limits={"force": 40.0}))
    with pytest.raises(ValueError, match=r"configurations.json is of a run with other limits; "):
        perform(distillation(limits={"skip_bad": True}))
    forced = distillation(force=True, selection={"count": 6})
    assert perform(forced) == [False, True, True, True]
    assert len(read(forced.folder / "lj" / "labels.xyz", ":")) == 6
    assert perform(distillation(selection={"count": 6})) == [False] * 4


def test_settings_of_an_unfinished_stage_may_change(distillation, folder):
    """What was too strict is made wider, and the run goes on."""
    plan = {"configurations": {"rattles": {"amplitudes": [0.02], "count": 9}}}
    strict = distillation(limits={"energy": 1e-9}, **plan)
    with pytest.raises(ValueError, match="limits: energy"):
        perform(strict)
    labels = read(folder / "out" / "chosen.xyz", ":")
    assert perform(distillation(limits={"energy": 3.0}, **plan)) == [False, False, True, True]
    assert len(read(folder / "out" / "lj" / "labels.xyz", ":")) == len(labels)
    assert not list(folder.rglob("*.journal"))


def test_changed_files_are_noticed(distillation):
    made = distillation()
    perform(made)
    path = made.folder / "chosen.xyz"
    text = path.read_text()
    path.write_text(text.replace("0.0", "0.1", 1))
    with pytest.raises(ValueError, match=r"chosen.xyz has changed since it was made; .*--force"):
        perform(made)
    path.unlink()
    with pytest.raises(ValueError, match=r"chosen.xyz is missing since it was made"):
        perform(made)
    forced = distillation(force=True)
    assert perform(forced) == [False, True, False, False]
    assert perform(made) == [False] * 4
    (made.folder / "lj" / "labels.xyz").unlink()
    assert perform(forced) == [False, False, True, False]


def test_another_teacher_under_the_same_name(distillation, folder):
    """Labels of a module that has changed since are not taken for its labels."""
    made = distillation()
    perform(made)
    module = folder / "mortal.py"
    module.write_text(module.read_text().replace("epsilon=0.5", "epsilon=0.4"))
    for stage, teacher in (STEPS[0], STEPS[2]):
        with pytest.raises(ValueError, match=rf"{stage}.json is of a run with other teacher; "):
            made.perform(stage, teacher)


def test_what_another_training_has_left_is_never_gone_on_with(tmp_path, monkeypatch):
    """Neither after kill -9 at any moment while its record is replaced, nor without a record."""
    path, left = tmp_path / "training.json", tmp_path / "student"

    def begun(identity, **options):
        return Record(path, {"sets": identity}, leftovers=left, **options)

    def leave():
        left.mkdir(exist_ok=True)
        (left / "checkpoint").write_text("of the first")

    begun("first")
    leave()
    begun("first")
    assert (left / "checkpoint").exists()  # the same training goes on
    with pytest.raises(ValueError, match="is of a run with other sets"):
        begun("second")
    assert (left / "checkpoint").exists()
    for name in ("rmtree", "write"):
        begun("first", replace=True)
        leave()
        with monkeypatch.context() as patch:
            if name == "rmtree":
                patch.setattr("shutil.rmtree", killed)
            else:
                patch.setattr(Record, "_write", killed)
            with pytest.raises(KeyboardInterrupt):
                begun("second", replace=True)
        begun("second")
        assert not left.exists(), name
    leave()
    path.unlink()
    begun("second")
    assert not left.exists()


def killed(*_):
    raise KeyboardInterrupt


def test_stages_in_the_wrong_order(distillation):
    with pytest.raises(ValueError, match=r"no .*chosen.xyz yet; the stage selection makes it"):
        perform(distillation(), [("labels", "lj")])


def test_records_of_something_else(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"labels.json is no record of a stage; move it away"):
        Record(path, {})


# --- the command, and what it refuses before any work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "none.xyz"}, "none.xyz: there is no such file"),
        ({"teachers": [{"teacher": "gfn1-xtb", "python": "/no/python"}]}, "no interpreter /no/pyt"),
        ({"student": {"backend": "mice", "config": "x"}}, "unknown backend 'mice'; did you mean"),
        ({"student": {"backend": "mace", "config": "x", "python": sys.executable}},
         "no configuration 'x' (known: mace/"),
        ({"seed": "one"}, "distill.yaml: `seed` must be a whole number"),
    ],
)  # fmt: skip
def test_refused_at_once(changes, message, distillation, fails):
    made = distillation(**changes) if "seed" not in changes else distillation()
    made.source.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    assert message in fails("distill", "run", str(made.source), "-o", str(made.folder))
    assert not list(made.folder.iterdir())


def test_a_student_that_is_not_installed(distillation, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "mace", None)
    monkeypatch.setitem(sys.modules, "mace.modules", None)
    monkeypatch.setitem(sys.modules, "mace.modules.models", None)
    made = distillation()
    message = fails("distill", "run", str(made.source), "-o", str(made.folder))
    assert 'pip install "les[mace]"' in message
    assert not list(made.folder.iterdir())


def test_one_stage(distillation, fails, monkeypatch):
    made = distillation()
    argv = ["distill", "stage", str(made.source), "-o", str(made.folder)]
    assert "the stage labels needs --teacher" in fails(*argv, "labels")
    assert "is not of one teacher: leave out --teacher" in fails(
        *argv, "selection", "--teacher", "lj"
    )
    assert cli.main([*argv, "configurations"]) == 0
    with locked(made.folder):
        assert "is in use by process" in fails(*argv, "selection")
        monkeypatch.setenv(KEPT, str(made.folder.resolve()))  # as of a process that `run` starts
        assert cli.main([*argv, "selection"]) == 0
    found = read(made.folder / "configurations.xyz", ":")
    assert len(found) == 9
    assert np.isfinite([atoms.positions for atoms in found]).all()
