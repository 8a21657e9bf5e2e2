"""Doors of the CACE adapter: options, files that are damaged, pickles, names, full disks."""

from __future__ import annotations

import re

import pytest
import torch
from ase import Atoms
from ase.io import write

from les.backends import get_backend
from les.backends.model_files import PickleRefusedError
from les.testing import TrainingTests
from les.testing.adapter import results_of
from les.testing.structures import dimer
from les_cace import CACE, LESCalculator, load_model, load_published, save_model

OPTIONS = {
    "name": "small",
    "model": "{n_atom_basis: 2, cutoff: 3.5, n_rbf: 3, n_radial_basis: 2, max_l: 1, max_nu: 2}",
    "readout": "{n_layers: 2, n_hidden: 4}",
    "stages": "[{epochs: 1, energy: 1, forces: 10}]",
    "batch_size": 6,
}


@pytest.fixture(scope="module")
def small_options():
    return OPTIONS


@pytest.fixture(scope="module")
def published(reference_dir):
    """A published model with LES, which is a pickle."""
    return reference_dir / "checkpoints" / "cace_les_water_r45_nu2.pth"


# --- training


class TestTraining(TrainingTests):
    suffix = ".cace.pt"


def test_pickles_to_start_from(train, refused, arguments, published, tmp_path):
    fine_tuning = arguments(tmp_path, **{"from": published, "model": None, "readout": None})
    error = refused("--les", *fine_tuning)
    assert f"{published} is a pickle" in error
    assert "--allow-pickle" in error
    assert "`les convert cace`" in error
    (tmp_path / "some.yaml").write_text("allow_pickle: true\n")
    error = refused("--les", *fine_tuning, f"--config={tmp_path / 'some.yaml'}")
    assert "'allow_pickle' is given on the command line only" in error
    train("--les", *fine_tuning, "--allow_pickle", "--epochs=1")
    model = load_model(tmp_path / "small.cace.pt")
    assert (
        model.les_config.settings()
        == load_published(published, allow_pickle=True).les_config.settings()
    )


# --- model files


@pytest.fixture
def model_file(small, tmp_path):
    """The file of a model with charges."""
    path = tmp_path / "model.cace.pt"
    save_model(CACE(small, {}), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("format"), "is no CACE model: its format is None"),
        (
            lambda content: content.update(format="les_cace.CACE/9"),
            "has the format version 9, and this release of les reads versions 1 to",
        ),
        (lambda content: content.pop("arguments"), "is no CACE model: it lacks 'arguments'"),
        (lambda content: content.pop("state_dict"), "is no CACE model: it lacks 'state_dict'"),
        (
            lambda content: content.update(state_dict=None),
            "is no CACE model with weights",
        ),
        (lambda content: content["state_dict"].popitem(), "does not fit.*Missing key"),
        (lambda content: content.update(arguments={}), "does not fit.*representation"),
        (lambda content: content["arguments"].update(new=1), "does not fit.*new"),
    ],
)
def test_files_that_lack_a_part(model_file, change, message):
    content = torch.load(model_file, weights_only=True)
    change(content)
    torch.save(content, model_file)
    with pytest.raises(ValueError, match=rf"{re.escape(str(model_file))} {message}") as caught:
        load_model(model_file)
    assert "\n" not in str(caught.value)


def test_state_without_a_model(model_file):
    for content in ([1], {"model": None}, {"model": torch.load(model_file), "average": 3}):
        torch.save(content, model_file)
        with pytest.raises(ValueError, match=re.escape(str(model_file))):
            load_model(model_file)


def test_published_models_need_consent(published, les_command, capsys, tmp_path):
    with pytest.raises(PickleRefusedError, match=r"allow_pickle=True.*`les convert cace`"):
        LESCalculator(published)
    atoms = Atoms("OH2", dimer().positions[:3])
    calculator = LESCalculator(published, allow_pickle=True)
    expected = LESCalculator(load_published(published, allow_pickle=True))
    assert results_of(calculator, atoms)["energy"] == results_of(expected, atoms)["energy"]
    write(tmp_path / "water.xyz", atoms)
    predict = ["predict", published, tmp_path / "water.xyz", "--backend", "cace"]
    assert les_command(*predict, "-o", tmp_path / "out.xyz") == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command(*predict, "-o", tmp_path / "out.xyz", "--allow-pickle") == 0


# --- calculators


def test_devices_and_heads(model_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert LESCalculator(model_file, device="auto").device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA GPU here"):
        LESCalculator(model_file, device="cuda")
    with pytest.raises(ValueError, match=r"models of .*cace.* which have no heads, got .*'dft'"):
        get_backend("cace").calculator(model_file, head="dft")
    with pytest.raises(TypeError, match="unknown keyword `head`"):
        LESCalculator(model_file, head="dft")
    with pytest.raises(TypeError, match="`model` must be a CACE, got Linear"):
        LESCalculator(torch.nn.Linear(1, 1))


def test_single_precision_far_from_the_origin(model_file):
    calculator = LESCalculator(model_file, dtype="float32", bec=True)
    near, far = dimer(), dimer()
    far.positions += [3e5, -2e5, 1e6]
    expected = results_of(calculator, near)
    actual = results_of(calculator, far)
    for key in ("energy", "les_energy", "charges", "dipole", "born_effective_charges"):
        assert actual[key] == pytest.approx(expected[key], abs=1e-5), key
