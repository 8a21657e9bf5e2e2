"""The command ``les`` with CHGNet, and what happens where chgnet is not installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.io import read, write

from les.backends import backend_names, backend_of, get_backend
from les.backends.committee import Committee
from les.predict import predict
from les.testing import MissingUpstreamTests
from les.testing.structures import crystal, dimer
from les_chgnet import LESCalculator, save_model
from les_chgnet.backend import CHGNetBackend, PretrainedCHGNetBackend

SYSTEMS = {"water", "dipeptides", "au2_mgo"}


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pth.tar"
    save_model(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "cls"), [("chgnet", CHGNetBackend), ("chgnet-pretrained", PretrainedCHGNetBackend)]
)
def test_backends_are_found(name, cls):
    assert name in backend_names()
    backend = get_backend(name)
    assert type(backend) is cls
    assert backend.name == name
    assert backend.problem() is None
    assert backend.version() is not None
    assert set(backend.configs()) == SYSTEMS


def test_configurations_differ():
    scratch, pretrained = get_backend("chgnet"), get_backend("chgnet-pretrained")
    for system in SYSTEMS:
        assert "from:" not in scratch.configs()[system].read_text()
        assert "from: 0.3.0" in pretrained.configs()[system].read_text()


def test_backend_of_a_model_file(tmp_path):
    assert backend_of(tmp_path / "water.pth.tar") == "chgnet"


def test_configurations_on_the_command_line(les_command, capsys, tmp_path):
    assert les_command("config", "list") == 0
    names = capsys.readouterr().out.split()
    expected = {f"{name}/{x}" for name in ("chgnet", "chgnet-pretrained") for x in SYSTEMS}
    assert expected == {name for name in names if name.startswith("chgnet")}
    for name in expected:
        backend, _, system = name.partition("/")
        assert les_command("config", "show", name) == 0
        text = get_backend(backend).configs()[system].read_text()
        assert capsys.readouterr().out == text
        assert les_command("config", "copy", name, tmp_path / f"{backend}.{system}") == 0
        assert (tmp_path / f"{backend}.{system}").read_text() == text
        capsys.readouterr()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predict(les_command, model_file, structures, check_predictions, dtype, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    options = ("-o", output, "--bec", "--dtype", dtype)
    assert les_command("predict", model_file, structures, *options) == 0
    assert "2 structures written" in capsys.readouterr().out
    calculator = LESCalculator(model_file, bec=True, dtype=dtype, use_device="cpu")
    rounding = 1e-7 if dtype == "float64" else 5e-6
    check_predictions(output, [dimer(), crystal()], calculator, rounding)
    assert not list(tmp_path.glob("*.part"))


def test_errors_of_magnetic_moments(les_command, model_file, tmp_path, capsys):
    """The model knows no sign, so that labels of an antiferromagnet do not count theirs."""
    calculator, atoms = LESCalculator(model_file, dtype="float64", use_device="cpu"), crystal()
    calculator.calculate(atoms)
    moments = calculator.results["magmoms"]
    assert moments.min() > 1e-3
    signs = np.where(np.arange(len(atoms)) % 2, -1, 1)
    atoms.arrays["REF_magmoms"] = signs * (moments + 0.25)
    write(tmp_path / "structures.xyz", atoms, format="extxyz")
    files = (model_file, tmp_path / "structures.xyz", "-o", tmp_path / "out.xyz")
    assert les_command("predict", *files, "--dtype", "float64") == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.endswith("| magmoms MAE / RMSE [mu_B]")
    assert row.endswith("| 0.25 / 0.25")
    committee = Committee([calculator, calculator])
    prediction = predict(committee, tmp_path / "structures.xyz", tmp_path / "committee.xyz")
    assert prediction.errors.mae("magmoms") == pytest.approx(0.25, abs=1e-6)


def test_predict_without_les(les_command, short_range_model, structures, tmp_path, capsys):
    path, output = tmp_path / "sr.pth.tar", tmp_path / "out.xyz"
    save_model(short_range_model, path)
    assert les_command("predict", path, structures, "-o", output) == 0
    frames = read(output, ":")
    assert all("LES_charges" not in frame.arrays for frame in frames)
    assert all("LES_forces" in frame.arrays for frame in frames)
    assert les_command("predict", path, structures, "-o", output, "--bec", "--force") == 1
    assert "`bec` needs a model with LES: this one is without charges" in capsys.readouterr().err


def test_predict_with_a_pretrained_model(les_command, structures, tmp_path):
    output = tmp_path / "out.xyz"
    options = ("--backend", "chgnet", "-o", output, "--dtype", "float32")
    assert les_command("predict", "0.3.0", structures, *options) == 0
    calculator = LESCalculator("0.3.0", use_device="cpu")
    for frame, atoms in zip(read(output, ":"), (dimer(), crystal()), strict=True):
        calculator.calculate(atoms)
        assert frame.info["LES_energy"] == pytest.approx(calculator.results["energy"], abs=1e-4)


def test_predict_with_a_pickled_model(les_command, model, structures, tmp_path, capsys):
    path = tmp_path / "pickled.pth.tar"
    torch.save({"model": model.as_dict(), "class": CHGNetBackend}, path)
    options = ("predict", path, structures, "-o", tmp_path / "out.xyz")
    assert les_command(*options) == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command(*options, "--allow-pickle") == 0


def wire():
    atoms = crystal()
    atoms.pbc = [True, False, False]
    return atoms


def americium():
    atoms = crystal()
    atoms.numbers[0] = 95
    return atoms


@pytest.mark.parametrize(
    ("make", "message"),
    [(wire, "pbc must have 0, 2 or 3 axes true"), (americium, "knows the elements H, .* got Am")],
)
def test_predict_names_the_bad_frame(make, message, les_command, model_file, tmp_path, capsys):
    write(tmp_path / "bad.xyz", [dimer(), make()], format="extxyz")
    output = tmp_path / "out.xyz"
    assert les_command("predict", model_file, tmp_path / "bad.xyz", "-o", output) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(ValueError, match=f"bad.xyz: frame 1: .*{message}"):
        raise ValueError(error)
    assert not output.exists()


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_help_of_training(flag, les_command, capsys):
    with pytest.raises(SystemExit) as end:
        les_command("train", "chgnet", flag, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: les train chgnet")
    assert "--atomic_energies" in text
    assert "(default: ef)" in text
    assert (
        ("--les_arguments" in text) == ("--freeze_short_range_epochs" in text) == (flag == "--les")
    )


def test_doctor(les_command, capsys):
    assert les_command("doctor") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for name in ("chgnet", "chgnet-pretrained"):
        expected = f"{name} ok chgnet {CHGNetBackend().version()}"
        assert expected in lines


# --- without chgnet

WITHOUT_CHGNET = "import sys; sys.modules['chgnet'] = None; "


def test_import_without_chgnet(run_program):
    program = (
        "import les_chgnet, les_chgnet.backend\n"
        "for name in 'CHGNet', 'PretrainedCHGNet':\n"
        "    backend = getattr(les_chgnet.backend, f'{name}Backend')()\n"
        "    print(backend.problem())\n"
        "    print(sorted(backend.configs()))\n"
        "print([name for name in ('torch', 'ase', 'pymatgen') if name in sys.modules])"
    )
    lines = run_program("-c", WITHOUT_CHGNET + program).stdout.splitlines()
    for problem in lines[0], lines[2]:
        assert problem.startswith("chgnet is not installed")
        assert problem.endswith(
            'install it in an environment of its own: pip install "les[chgnet]"'
        )
    assert lines[1] == lines[3] == "['au2_mgo', 'dipeptides', 'water']"
    assert "pymatgen" not in lines[4]


class TestMissingUpstream(MissingUpstreamTests):
    backend, package, distribution = "chgnet", "chgnet", "chgnet"
    names = "CHGNetLES", "load_model", "LESCalculator"
    commands = {  # noqa: RUF012
        "train chgnet --les --name=x": "chgnet",
        "predict m.pth.tar x.xyz": "chgnet",
        "train chgnet-pretrained": "chgnet-pretrained",
    }
