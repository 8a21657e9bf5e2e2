"""Learning curves: which data each training gets, how long, and what is done only once."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import read, write

from les import cli
from les.backends.interface import Backend
from les.distillation import evaluation, student


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Files of data, and the jobs that were trained: students err by 1 / (structures, start)."""
    jobs = []

    def train(job, settings, label):
        jobs.append(job)
        job.directory.mkdir(parents=True, exist_ok=True)
        model = job.directory / "student.json"
        n = len(read(job.train_file, ":")) * (2 if "--from" in "".join(job.extra) else 1)
        model.write_text(json.dumps(0.5 * (1.0 + 1.0 / n)))
        return model

    def load_calculator(backend, model, **options):
        return LennardJones(sigma=0.85, epsilon=json.loads(model.read_text()), rc=4.0, smooth=True)

    monkeypatch.setattr(student, "train", train)
    monkeypatch.setattr(evaluation, "load_calculator", load_calculator)
    monkeypatch.setattr(Backend, "require", lambda self: None)
    monkeypatch.chdir(tmp_path)
    for name, n in (("train", 20), ("valid", 2), ("test", 3)):
        frames = []
        for number in range(n):
            atoms = molecule("H2O")
            atoms.rattle(0.03, seed=number)
            atoms.calc = LennardJones(sigma=0.85, epsilon=0.5, rc=4.0, smooth=True)
            atoms.get_forces()
            frames.append(atoms)
        write(tmp_path / f"{name}.xyz", frames)
    return jobs


COMMAND = shlex.split(
    "distill curve mace --from start.pt --scratch --config mace/water --epochs 10 "
    "--train_file train.xyz --valid_file valid.xyz --test_file test.xyz --shares 10 50 100"
)


def test_a_curve(trainings, tmp_path, capsys):
    (tmp_path / "start.pt").write_text("a model")
    assert cli.main([*COMMAND, "--", "--lr=0.1"]) == 0
    curve = json.loads((tmp_path / "curve" / "curve.json").read_text())
    for kind, factor in (("fine-tuned", 2), ("from scratch", 1)):
        each = curve[kind]
        assert [facts["n"] for facts in each.values()] == [2, 10, 20]
        assert [facts["epochs"] for facts in each.values()] == [100, 20, 10]
        errors = [facts["errors"]["forces"]["rmse"] for facts in each.values()]
        scale = errors[0] * 2 * factor
        assert errors == pytest.approx([scale / (n * factor) for n in (2, 10, 20)], rel=1e-3)
    # Parts of the larger ones, and nothing of the labels is lost.
    sets = [
        {tuple(atoms.positions.ravel()) for atoms in read(path, ":")}
        for path in (tmp_path / "curve" / f"share-{share}" / "train.xyz" for share in (10, 50, 100))
    ]
    assert sets[0] < sets[1] < sets[2]
    assert "REF_forces" in read(tmp_path / "curve" / "share-100" / "train.xyz", 0).arrays
    fine_tuned = [job for job in trainings if f"--from={tmp_path / 'start.pt'}" in job.extra]
    assert len(fine_tuned) == 3
    assert len(trainings) == 6
    assert all("--lr=0.1" in job.extra for job in trainings)
    assert (tmp_path / "curve" / "curve.png").is_file()
    table = capsys.readouterr().out
    # The same command trains nothing; another model to start from is another curve.
    assert cli.main([*COMMAND, "--", "--lr=0.1"]) == 0
    assert capsys.readouterr().out == table
    assert len(trainings) == 6
    (tmp_path / "start.pt").write_text("another model")
    assert cli.main([*COMMAND, "--", "--lr=0.1"]) == 1
    assert "is of a run with other start" in capsys.readouterr().err


def test_all_that_files_say_reaches_the_trainings(trainings, tmp_path, fails):
    frames = read(tmp_path / "train.xyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info |= {
            "config_type": "water",
            "my_energy": float(number),
            "REF_dipole": [0, 0, 1.0],
        }
        atoms.calc.results["dipole"] = np.array([0.0, 0.5, 0.0])
        atoms.arrays["REF_bec"] = np.full((3, 9), 0.25)
    write(tmp_path / "train.xyz", frames)
    (tmp_path / "start.pt").write_text("a model")
    assert cli.main(COMMAND) == 0
    for atoms in read(tmp_path / "curve" / "share-50" / "train.xyz", ":"):
        assert atoms.info["config_type"] == "water"
        assert atoms.info["my_energy"] in range(20)
        assert list(atoms.info["REF_dipole"]) == [0, 0, 1]  # goes before what has no prefix
        assert atoms.arrays["REF_bec"].shape == (3, 9)
    # Another curve is refused before it replaces anything.
    sets = {path: path.read_bytes() for path in (tmp_path / "curve").rglob("*.xyz")}
    for name in ("train", "test"):
        write(tmp_path / f"{name}.xyz", frames[:3])
    assert "is of a run with other sets" in fails(*COMMAND)
    assert sets == {path: path.read_bytes() for path in (tmp_path / "curve").rglob("*.xyz")}
    frames[0].calc.results["magmom"] = 1.0
    write(tmp_path / "train.xyz", frames)
    assert "'magmom' is no label and would be lost" in fails(*COMMAND)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--shares", "0"], "`shares` must be numbers above 0 and up to 1"),
        (["--shares", "200"], "`shares` must be numbers above 0 and up to 1"),
        (["--", "--from=x.pt"], "`--from` has no effect on the trainings of a curve"),
    ],
)
def test_refused(changes, message, trainings, fails):
    assert message in fails(*COMMAND, *changes)
    assert trainings == []
