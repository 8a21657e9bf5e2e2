"""The whole of ``les distill``, from a molecule to the errors of a student that MACE makes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.io import read, write

from les.distillation.evaluation import evaluate
from les.distillation.settings import StudentSettings
from les_mace import LESCalculator

#: Bonds of about 0.95 A, in a module of ASE.
TEACHER = {
    "teacher": "ase.calculators.lj:LennardJones",
    "name": "lj",
    "options": {"sigma": 0.85, "epsilon": 0.3, "rc": 4.0, "smooth": True},
}
SETTINGS = {
    "teachers": [TEACHER],
    "start": ["start.xyz"],
    "configurations": {
        "rattles": {"amplitudes": [0.05], "count": 12},
        "dynamics": {"steps": 8, "every": 2, "equilibration": 2, "timestep": 0.2},
        "scans": {"distances": [2.0, 3.0, 5.0], "orientations": 1},
    },
    "selection": {"count": 14},
    "split": {"block": 1, "gap": 0},
    "student": {"backend": "mace", "config": "small.yaml", "epochs": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a start, and a small configuration of MACE."""
    folder = tmp_path_factory.mktemp("distillation")
    write(folder / "start.xyz", molecule("H2O"))
    small = {
        "model": "ScaleShiftMACE", "num_channels": 8, "max_L": 0, "r_max": 4.0,
        "num_interactions": 2, "correlation": 2, "max_ell": 1, "num_radial_basis": 4,
        "radial_MLP": "[8, 8]", "MLP_irreps": "8x0e", "E0s": "average", "batch_size": 4,
        "valid_batch_size": 4, "default_dtype": "float64", "plot": False,
    }  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    """A function that writes settings with changes, and returns the file."""

    def write_settings(**changes):
        path = folder / "distill.yaml"
        path.write_text(yaml.safe_dump({**SETTINGS, **changes}))
        return path

    return write_settings


@pytest.mark.slow
def test_from_a_molecule_to_a_student(les_command, settings, folder, capsys):
    """All stages, what they leave, and the student as a teacher of its own charges."""
    out = folder / "out"
    assert les_command("distill", "run", settings(), "-o", out) == 0
    assert "forces MAE / RMSE" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())["lj"]
    test = read(out / "lj" / "test.xyz", ":")
    assert results["n_structures"] == len(test) > 0
    assert results["student"]["les"] is True
    model = out / "lj" / "student" / "student.pt"
    calculator = LESCalculator(model)
    errors = []
    for atoms in test:
        calculator.calculate(atoms)
        errors.append((calculator.results["forces"] - atoms.arrays["REF_forces"]).ravel())
        assert "charges" in calculator.results
    rmse = float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))
    assert results["errors"]["forces"]["rmse"] == pytest.approx(rmse, rel=1e-6)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.xyz")}

    # Nothing is done twice; other options are refused, unless the student is to be made anew.
    assert les_command("distill", "run", settings(), "-o", out) == 0
    assert capsys.readouterr().err.count("is done already") == 6
    student = {**SETTINGS["student"], "options": ["--seed=7"]}
    assert les_command("distill", "run", settings(student=student), "-o", out) == 1
    assert "is of a run with other student" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.xyz")} == written

    # As a teacher it gives charges, dipoles and Born effective charges, and agrees with itself.
    labels = folder / "labels.xyz"
    given = (model, out / "lj" / "test.xyz", "-o", labels, "--options", "{bec: true}")
    assert les_command("distill", "label", *given) == 0
    bec = LESCalculator(model, bec=True)
    atoms = read(labels, 0)
    bec.calculate(atoms)
    expected = np.reshape(bec.results["born_effective_charges"], (-1, 9))
    np.testing.assert_allclose(atoms.arrays["REF_bec"], expected, atol=1e-7)
    itself = evaluate(model, StudentSettings("mace", "x"), labels, folder / "predictions.xyz")
    for label in ("energy", "forces"):
        assert itself["errors"][label]["rmse"] < 1e-6
    for label in ("charges", "dipole", "bec"):
        assert itself["agreement"][label]["rmse"] < 1e-6


@pytest.mark.slow
def test_a_training_that_fails_says_why(les_command, settings, folder, capsys):
    student = {**SETTINGS["student"], "options": ["--no_such_option=1"]}
    path = settings(student=student)
    assert les_command("distill", "run", path, "-o", folder / "failing") == 1
    error = capsys.readouterr().err
    assert "the training ended with status 2" in error
    assert "no_such_option" in error


@pytest.mark.slow
def test_a_round_of_active_learning(les_command, settings, folder, capsys):
    """Two students of MACE explore, the teacher labels what they do not agree about."""
    path = settings(
        configurations={"rattles": {"amplitudes": [0.05], "count": 8}},
        selection={},
        student={**SETTINGS["student"], "epochs": 1},
        rounds={
            "spread": 1e-6,
            "frames": 3,
            "dynamics": {"steps": 8, "every": 2, "equilibration": 2, "timestep": 0.2},
        },
    )
    out = folder / "rounds"
    assert les_command("distill", "run", path, "-o", out, "--rounds", "1") == 0
    assert "ended after 1 round, as many" in capsys.readouterr().out
    (before, after) = json.loads((out / "rounds.json").read_text())["rounds"]
    labelled = read(out / "lj" / "round-1" / "labels.xyz", ":")
    assert after["n_labelled"] == len(labelled) > 0
    assert after["n_train"] == before["n_train"] + len(labelled)
    assert after["exploration"]["largest_spread"] > 1e-6
    calculator = LESCalculator(out / "lj" / "round-1" / "student" / "student.pt")
    assert calculator.les_config is not None
