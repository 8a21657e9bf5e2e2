"""The command ``les``, with a backend that needs no upstream."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write

import les
from les import LESConfig, cli, doctor
from les.backend import Backend, BackendError, backend_names, backend_of, get_backend
from les.predict import predict


class FakeCalculator(Calculator):
    """Energy = number of atoms."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        n = len(atoms)
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model does not know xenon")
        self.results = {
            "energy": float(n),
            "forces": np.ones((n, 3)),
            "charges": np.arange(n) / 10.0,
            "born_effective_charges": np.zeros((n, 9)),
        }


class FakeBackend(Backend):
    """Notes what it is asked for."""

    name = "fake"
    package = "les_mace"  # has configurations
    distribution = "fake-upstream"
    symbol = "json:loads"
    calls: list = []  # noqa: RUF012

    def train(self, arguments, *, les):
        self.require()
        self.calls.append((arguments, les))

    def calculator(self, model, *, device="cpu", dtype="float64", **options):
        self.calls.append((Path(model), device, dtype, options))
        return FakeCalculator()

    def training_arguments(self, job):
        raise NotImplementedError

    trained_model = history = training_arguments


@pytest.fixture
def fake(monkeypatch):
    """The fake backend in place of all others."""

    def find(name):
        return FakeBackend() if name == "fake" else get_backend(name)

    for module in (cli, doctor):
        monkeypatch.setattr(module, "get_backend", find)
        monkeypatch.setattr(module, "backend_names", lambda: ["fake"])
    monkeypatch.setattr(FakeBackend, "calls", [])
    return FakeBackend


def fails(capsys, *argv):
    """The error message of a command that must fail without a traceback."""
    assert cli.main(list(argv)) == 1
    *_, message = capsys.readouterr().err.partition("les: error: ")
    assert message
    return message


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == les.__version__


@pytest.mark.parametrize("argv", [[], ["bake"]])
def test_unknown_command(argv, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2
    assert "predict" in capsys.readouterr().err


def test_doctor(fake, capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"les {les.__version__}, Python 3.")
    assert "torch" in lines[0]
    assert lines[1].split()[:2] == ["fake", "ok"]
    monkeypatch.setattr(fake, "symbol", "no_such_upstream:Model")
    assert cli.main(["doctor"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:2] == ["fake", "no"]
    assert 'pip install "les[fake]"' in line


def test_doctor_of_a_model(fake, capsys, monkeypatch):
    calculator = SimpleNamespace(les_config=LESConfig(dl=1.5))
    monkeypatch.setattr(fake, "calculator", lambda self, model, **options: calculator)
    assert cli.main(["doctor", "a.model", "--backend", "fake"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a.model: fake, LES with sigma = 1 A, dl = 1.5 A, smooth cutoff"
    assert re.search(r"due to the cutoff: \de-04, of water and .* up to \de-03", second)
    calculator.les_config = None
    assert cli.main(["doctor", "a.model", "--backend", "fake"]) == 0
    assert capsys.readouterr().out == "a.model: fake, without LES\n"


def test_what_doctor_says_of_settings():
    fine = doctor.examine_model(LESConfig(accuracy=1e-4))
    assert re.search(r"crystals up to [5-9]e-05", fine)
    older = LESConfig(cutoff="sharp", norm_factor=90.0474, remove_self_interaction=False)
    text = doctor.examine_model(older)
    for part in ("sharp cutoff", "energies jump", "with themselves", "90.0474 eV A / e^2 instead"):
        assert part in text
        assert part not in fine
    several = LESConfig(n_channels=4, use_atomwise=True, n_features=2)
    assert "4 charges on each atom" in doctor.examine_model(several)


def test_registered_backends():
    assert "mace" in backend_names()
    for name in backend_names():
        backend = get_backend(name)
        assert isinstance(backend, Backend)
        assert backend.name == name
        assert backend.configs()


def test_unknown_backend_names_the_closest(capsys):
    assert "unknown backend 'mcae'; did you mean 'mace'?" in fails(capsys, "train", "mcae", "--les")
    assert "unknown backend 'xyz' (known: " in fails(capsys, "config", "show", "xyz/water")


@pytest.mark.parametrize(
    ("flags", "with_les"), [([], True), (["--les"], True), (["--no-les"], False)]
)
def test_train_passes_arguments_on(fake, flags, with_les):
    assert cli.main(["train", "fake", "--config", "a.yaml", *flags, "--seed=3"]) == 0
    assert fake.calls == [(["--config", "a.yaml", "--seed=3"], with_les)]


def test_train_usage(fake, capsys):
    assert cli.main(["train"]) == 2
    assert cli.main(["train", "--help"]) == 0
    assert "usage: les train {fake}" in capsys.readouterr().out
    assert "exclude each other" in fails(capsys, "train", "fake", "--les", "--no-les")


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        (
            "no_such_upstream:Model",
            "fake-upstream is not installed (no module 'no_such_upstream'); "
            'install it with: pip install "les[fake]"',
        ),
        (
            "json:MACE",
            "the installed module 'json' is not that of fake-upstream (it has no 'MACE'); "
            'install it with: pip install "les[fake]"',
        ),
        (
            "broken_upstream:Model",
            "fake-upstream fails to import: RuntimeError: no accelerator",
        ),
    ],
    ids=["absent", "wrong package", "broken"],
)
def test_unusable_upstream(fake, symbol, message, capsys, monkeypatch, tmp_path):
    (tmp_path / "broken_upstream.py").write_text("raise RuntimeError('no accelerator')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fake, "symbol", symbol)
    assert f"backend 'fake': {message}" in fails(capsys, "train", "fake", "--name", "x")
    assert fake.calls == []
    with pytest.raises(BackendError):
        fake().require()
    sys.modules.pop("broken_upstream", None)


def test_errors_keep_their_traceback_when_debugging(fake, monkeypatch):
    monkeypatch.setattr(fake, "symbol", "json:MACE")
    with pytest.raises(BackendError, match="it has no 'MACE'"):
        cli.main(["--debug", "train", "fake"])


def test_interrupt_is_no_traceback(fake, capsys, monkeypatch):
    def interrupted(self, arguments, *, les):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "train", interrupted)
    assert cli.main(["train", "fake"]) == 130
    assert capsys.readouterr().err == "les: interrupted\n"


def test_config_names_need_a_model(capsys):
    assert "the name must be MODEL/SYSTEM" in fails(capsys, "config", "show", "water")


def test_unmet_requirements(monkeypatch):
    needs = ["numpy<1", "no-such-thing>2", "torch", "x; extra == 'y'"]
    versions = {"numpy": "2.2.6", "torch": "2.13.0"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    monkeypatch.setattr(doctor.metadata, "version", version)
    assert doctor.unmet_requirements("mace-torch") == [
        "mace-torch needs numpy<1, 2.2.6 is installed",
        "mace-torch needs no-such-thing, which is not installed",
    ]


def test_config_list_and_show(fake, capsys):
    assert cli.main(["config", "list"]) == 0
    names = capsys.readouterr().out.split()
    assert {"fake/water", "fake/dipeptides", "fake/au2_mgo"} <= set(names)
    assert cli.main(["config", "show", "fake/water"]) == 0
    assert capsys.readouterr().out == fake().configs()["water"].read_text()
    message = fails(capsys, "config", "show", "fake/ice")
    assert "no configuration 'fake/ice' (known: " in message
    assert "fake/water" in message


def test_config_copy_refuses_to_overwrite(fake, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = fake().configs()["water"].read_text()
    for target in ([], ["mine.yaml"]):
        assert cli.main(["config", "copy", "fake/water", *target]) == 0
    (tmp_path / "folder").mkdir()
    assert cli.main(["config", "copy", "fake/water", "folder"]) == 0
    copies = [tmp_path / "water.yaml", tmp_path / "mine.yaml", tmp_path / "folder" / "water.yaml"]
    assert [path.read_text() for path in copies] == [text] * 3
    copies[0].write_text("edited: true\n")
    assert "water.yaml exists already" in fails(capsys, "config", "copy", "fake/water")
    assert copies[0].read_text() == "edited: true\n"


@pytest.fixture
def structures(tmp_path):
    """A molecule with labels of its own, and a crystal."""
    molecule = Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]], info={"REF_energy": -5.0})
    crystal = Atoms("NaCl", [[0, 0, 0], [2.0] * 3], cell=[4.0] * 3, pbc=True)
    path = tmp_path / "structures.xyz"
    write(path, [molecule, crystal])
    return path


def test_predict(fake, structures, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(output)]
    assert cli.main([*argv, "--bec", "--dtype", "float32"]) == 0
    options = {"bec": True, "allow_pickle": False}
    assert fake.calls == [(Path("a.model"), "cpu", "float32", options)]
    assert "2 structures" in capsys.readouterr().out
    molecule, crystal = read(output, ":")
    assert molecule.info["LES_energy"] == 3.0
    assert molecule.info["REF_energy"] == -5.0
    assert crystal.info["LES_energy"] == 2.0
    assert crystal.pbc.all()
    np.testing.assert_array_equal(molecule.arrays["LES_forces"], 1.0)
    np.testing.assert_array_equal(molecule.arrays["LES_charges"], [0.0, 0.1, 0.2])
    assert molecule.arrays["LES_born_effective_charges"].shape == (3, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "structures.xyz"]


def spoiled(structures, change):
    """The file with its second frame changed."""
    frames = read(structures, ":")
    change(frames[1])
    write(structures, frames)
    return structures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, 0, 0]]), "at the same place"),
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, np.nan, 0]]), "must be finite"),
        (lambda atoms: atoms.set_atomic_numbers([54, 17]), "does not know xenon"),
    ],
)  # fmt: skip
def test_predict_names_file_and_frame(structures, tmp_path, change, message):
    output = tmp_path / "out.xyz"
    output.write_text("of an earlier run")
    with pytest.raises(ValueError, match=message) as error:
        predict(FakeCalculator(), spoiled(structures, change), output)
    assert str(error.value).startswith(f"{structures}, frame 1: ")
    assert output.read_text() == "of an earlier run"
    assert len(list(tmp_path.iterdir())) == 2


def test_predict_without_structures(fake, tmp_path, capsys):
    empty, output = tmp_path / "empty.xyz", tmp_path / "out.xyz"
    empty.write_text("")
    argv = ["predict", "a.model", str(empty), "--backend", "fake", "-o", str(output)]
    assert f"{empty}" in fails(capsys, *argv)
    assert not output.exists()
    argv[2] = str(tmp_path / "nowhere.xyz")
    assert "nowhere.xyz" in fails(capsys, *argv)


def test_predict_on_what_is_no_structure_file(fake, tmp_path, capsys):
    text, output = tmp_path / "notes.xyz", tmp_path / "out.xyz"
    text.write_text("these are\nnot atoms\n")
    argv = ["predict", "a.model", str(text), "--backend", "fake", "-o", str(output)]
    assert f"{text}" in fails(capsys, *argv)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("water.pt", "mace"),
        ("runs/water.model", "mace"),
        ("best.ckpt", "nequip"),
        ("water.nequip.zip", "nequip"),
        ("water.nequip.pt2", "nequip"),
    ],
)
def test_backend_of_a_model_file(name, expected):
    assert backend_of(Path(name)) == expected


def test_model_file_of_no_backend():
    with pytest.raises(BackendError, match=r"'water.zip' does not tell .* --backend .*mace: .pt"):
        backend_of(Path("water.zip"))


def test_nothing_to_convert(capsys, tmp_path):
    error = fails(capsys, "convert", "nequip", str(tmp_path / "a"), str(tmp_path / "b"))
    assert "backend 'nequip' has no published models to convert" in error
    (tmp_path / "b").touch()
    error = fails(capsys, "convert", "nequip", str(tmp_path / "a"), str(tmp_path / "b"))
    assert "exists already" in error
