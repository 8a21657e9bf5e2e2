"""The command ``les doctor``, with a backend that needs no upstream."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import les
from les import LESConfig, cli
from les.cli import doctor


def test_doctor(fake, capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"les {les.__version__}, Python 3.")
    assert "torch" in lines[0]
    assert lines[2].split()[:2] == ["fake", "ok"]
    assert not any("environment of its own" in line for line in lines)
    monkeypatch.setattr(fake, "symbol", "no_such_upstream:Model")
    monkeypatch.setenv("LES_NATIVE", "0")
    assert cli.main(["doctor"]) == 0
    _, kernels, line, advice, *_ = capsys.readouterr().out.splitlines()
    assert kernels == "kernels of the sum for the CPU: none, LES_NATIVE=0"
    assert line.split()[:2] == ["fake", "no"]
    assert 'pip install "les[fake]"' in line
    assert advice.endswith("install each into an environment of its own.")


def test_extras(fake, capsys, monkeypatch):
    """Each is there or lacks something; what stands in other extras is a part of it."""
    provided = metadata.metadata("les").get_all("Provides-Extra")
    assert set(doctor.EXTRAS) <= set(provided or [])
    requirements = [
        "torch",
        'first; extra == "bench"',
        'second>=2; extra == "spectra"',
        'les[bench]; extra == "spectra"',
        'another; extra == "spectra" and python_version < "3"',
    ]
    installed = {"first"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return "2.0"

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: requirements)
    monkeypatch.setattr(doctor.metadata, "version", version)
    assert doctor.missing_of_extra("bench") == []
    assert doctor.missing_of_extra("spectra") == ["second"]
    installed.clear()
    assert doctor.missing_of_extra("spectra") == ["second", "first"]
    monkeypatch.setattr(doctor, "EXTRAS", ("spectra",))
    (line,) = doctor.describe_extras()
    lacks = 'lacks second, first; install with: pip install "les[spectra]"'
    assert line == f"extra spectra  no  {lacks}"
    installed |= {"first", "second"}
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "extra spectra  ok"
    requirements[2] = 'second>=3; extra == "spectra"'
    assert doctor.missing_of_extra("spectra") == ["second>=3 (2.0 is installed)"]
    (line,) = doctor.describe_extras()
    assert line.startswith("extra spectra  no  lacks second>=3 (2.0 is installed); install with")


def test_extras_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(doctor, "missing_of_extra", lambda extra: None)
    (line,) = doctor.describe_extras()
    assert line.endswith("not installed; install it with: pip install packaging")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The name of a file that torch has written, in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": torch.arange(1000.0)}, "a.model")
    return "a.model"


def test_doctor_of_a_model(fake, model, capsys, monkeypatch):
    calculator = SimpleNamespace(les_config=LESConfig(dl=1.5))
    monkeypatch.setattr(fake, "calculator", lambda self, model, **options: calculator)
    assert cli.main(["doctor", model, "--backend", "fake"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "a.model: fake, LES with sigma = 1 A, dl = 1.5 A, smooth cutoff"
    assert re.search(r"due to the cutoff: \de-04, of water and .* up to \de-03", second)
    assert third.strip() == "charges sum to the total charge of a structure"
    calculator.les_config = None
    for name in (model, "0.3.0"):  # the latter is no file: some backends bring models along
        assert cli.main(["doctor", name, "--backend", "fake"]) == 0
        assert capsys.readouterr().out == f"{name}: fake, without LES\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text(""), "a.model (0 bytes) is no model: not a file that torch"),
        (lambda path: path.write_text("garbage"), "a.model (7 bytes) is no model"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "a.model is truncated or dam"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"\0\0\x80?", b"\0\0\x80@")),
            "a.model is damaged: the checksum of its part 'a/data/0' is wrong",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "a.model must be a model file, got a folder"),
    ],
    ids=["empty", "foreign", "truncated", "damaged", "folder"],
)
def test_doctor_of_what_is_no_model(fake, model, change, message, fails, monkeypatch):
    monkeypatch.setattr(fake, "calculator", lambda *_, **__: pytest.fail("nothing to load"))
    change(Path(model))
    said = fails("doctor", model, "--backend", "fake")
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


def test_doctor_of_another_programs_model(fake, model, fails, monkeypatch):
    def calculator(self, path, **options):
        raise KeyError("state_dict\nand many lines more")

    monkeypatch.setattr(fake, "calculator", calculator)
    said = fails("doctor", model, "--backend", "fake")
    assert said.strip() == (
        "a.model cannot be read as a model of fake: KeyError: 'state_dict\\nand many lines more'"
    )


def test_a_wrong_name_is_told_before_what_is_not_installed(fake, fails, monkeypatch, tmp_path):
    monkeypatch.setattr(fake, "symbol", "no_such_upstream:Model")
    monkeypatch.setattr(fake, "model_suffixes", (".fake",))
    monkeypatch.chdir(tmp_path)
    assert "no model file nosuch.fake" in fails("doctor", "nosuch.fake")


def test_what_doctor_says_of_settings():
    fine = doctor.examine_model(LESConfig(accuracy=1e-4))
    assert re.search(r"crystals up to [5-9]e-05", fine)
    older = LESConfig(
        cutoff="sharp", norm_factor=90.0474, remove_self_interaction=False, neutrality="none"
    )
    text = doctor.examine_model(older)
    for part in ("sharp cutoff", "energies jump", "with themselves", "90.0474 eV A / e^2 instead"):
        assert part in text
        assert part not in fine
    assert "total charge" not in text
    of_elements = doctor.examine_model(LESConfig.for_features({}, 2))
    assert "each element has a learned charge" in of_elements
    assert "each element" not in fine
    several = LESConfig(n_channels=4, use_atomwise=True, n_features=2)
    assert "4 charges on each atom" in doctor.examine_model(several)


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
