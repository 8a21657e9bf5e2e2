"""The command ``les`` with MACE, and what happens where mace-torch is not installed."""

from __future__ import annotations

import csv

import mace  # noqa: F401  (before e3nn)
import pytest
import torch
from ase.io import read, write
from mace.modules import ScaleShiftMACE
from mace.tools.torch_tools import default_dtype

from les.backends import backend_names, get_backend
from les.testing import MissingUpstreamTests
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, load_model, save_model
from les_mace.backend import MACEBackend


@pytest.fixture(scope="module")
def model(mace_arguments):
    torch.manual_seed(2)
    with default_dtype(torch.float64):
        return MACELES(**mace_arguments)


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(model, path)
    return path


def test_backend_is_found():
    assert "mace" in backend_names()
    backend = get_backend("mace")
    assert isinstance(backend, MACEBackend)
    assert backend.problem() is None
    assert backend.version() is not None
    assert set(backend.configs()) == {"water", "dipeptides", "au2_mgo"}


def test_predict(les_command, model_file, structures, check_predictions, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    assert les_command("predict", model_file, structures, "-o", output, "--bec") == 0
    assert "2 structures written" in capsys.readouterr().out
    check_predictions(output, [dimer(), crystal()], LESCalculator(model_file, bec=True))
    assert not list(tmp_path.glob("*.part"))


def test_analyse(les_command, model_file, mace_arguments, structures, tmp_path, capsys):
    """Dipoles of the charges are those of the calculator; a model without charges is refused."""
    folder = tmp_path / "analysis"
    assert les_command("analyse", model_file, structures, "-o", folder) == 0
    assert "1 periodic structures: they have no unique dipole" in capsys.readouterr().out
    calculator = LESCalculator(model_file)
    calculator.calculate(read(structures, 0))
    with (folder / "structures.csv").open() as file:
        molecule, cell = csv.DictReader(file)
    dipole = [float(molecule[f"dipole_{axis}"]) for axis in "xyz"]
    assert dipole == pytest.approx(calculator.results["dipole"].tolist(), rel=1e-6, abs=1e-9)
    assert cell["dipole_x"] == ""

    torch.save(ScaleShiftMACE(**mace_arguments), tmp_path / "sr.model")
    options = ("analyse", tmp_path / "sr.model", structures, "--allow-pickle", "--force")
    assert les_command(*options, "-o", folder) == 1
    assert "the model has no LES, and so no charges" in capsys.readouterr().err


def test_predict_with_a_pickled_model(les_command, mace_arguments, structures, tmp_path, capsys):
    """Upstream's short-range models work, too, once the user trusts the file."""
    torch.save(ScaleShiftMACE(**mace_arguments), tmp_path / "sr.model")
    options = ("predict", tmp_path / "sr.model", structures, "-o", tmp_path / "out.xyz")
    assert les_command(*options) == 1
    assert "allow_pickle=True" in capsys.readouterr().err
    assert les_command(*options, "--allow-pickle") == 0
    assert "LES_charges" not in read(tmp_path / "out.xyz").arrays


def test_predict_names_the_bad_frame(les_command, model_file, tmp_path, capsys):
    bad = crystal()
    bad.pbc = [True, False, False]
    write(tmp_path / "bad.xyz", [dimer(), bad], format="extxyz")
    output = tmp_path / "out.xyz"
    assert les_command("predict", model_file, tmp_path / "bad.xyz", "-o", output) == 1
    error = capsys.readouterr().err
    assert "bad.xyz: frame 1: pbc must have 0, 2 or 3 axes true" in error
    assert not output.exists()


def test_unknown_element(les_command, model_file, tmp_path, capsys):
    gold = dimer()
    gold.numbers[0] = 79
    write(tmp_path / "gold.xyz", gold, format="extxyz")
    output = tmp_path / "out.xyz"
    assert les_command("predict", model_file, tmp_path / "gold.xyz", "-o", output) == 1
    error = capsys.readouterr().err
    assert "frame 0" in error
    assert "Au" in error


def test_help_of_training_is_upstreams(les_command, capsys):
    with pytest.raises(SystemExit) as end:
        les_command("train", "mace", "--les", "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "--num_channels" in text
    assert "--from" in text


def test_doctor(les_command, capsys):
    assert les_command("doctor") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mace", "ok", "mace-torch", MACEBackend().version()] in lines


# --- without mace-torch

WITHOUT_MACE = "import sys; sys.modules['mace'] = None; "


def test_import_without_mace(run_program):
    program = (
        "import les_mace, les_mace.backend\n"
        "backend = les_mace.backend.MACEBackend()\n"
        "print(backend.problem())\n"
        "print(sorted(backend.configs()))\n"
        "print([name for name in ('torch', 'ase', 'e3nn') if name in sys.modules])"
    )
    lines = run_program("-c", WITHOUT_MACE + program).stdout.splitlines()
    assert lines[0].startswith("mace-torch is not installed")
    assert lines[0].endswith('install it in an environment of its own: pip install "les[mace]"')
    assert lines[1] == "['au2_mgo', 'dipeptides', 'water']"
    assert "e3nn" not in lines[2]


class TestMissingUpstream(MissingUpstreamTests):
    backend, package, distribution = "mace", "mace", "mace-torch"
    names = "MACELES", "LESCalculator", "load_model", "save_model"
    commands = dict.fromkeys(("train mace --les --name=x", "predict model.pt x.xyz"), "mace")


def test_convert(reference_dir, les_command, capsys, tmp_path):
    source = reference_dir / "checkpoints" / "mace_les_dipeptides_r4_l0.model"
    target = tmp_path / "model.pt"
    assert les_command("convert", "mace", source, target) == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command("convert", "mace", source, target, "--allow-pickle") == 0
    assert load_model(target).les.config().norm_factor == 90.0474
    assert les_command("convert", "mace", source, target, "--allow-pickle") == 1
    assert "exists already" in capsys.readouterr().err
    torch.save(torch.nn.Linear(1, 1), tmp_path / "other.model")
    other = ["convert", "mace", tmp_path / "other.model", tmp_path / "other.pt", "--allow-pickle"]
    assert les_command(*other) == 1
    assert "must hold a ScaleShiftMACE model, got Linear" in capsys.readouterr().err
