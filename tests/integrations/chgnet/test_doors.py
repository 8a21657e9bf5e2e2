"""Doors of the CHGNet adapter: options, files that are damaged, pickles, names, full disks."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from ase.io import write

import les_chgnet.weights
from les.backends import get_backend
from les.backends.model_files import PickleRefusedError
from les.testing import TrainingTests
from les.testing.adapter import results_of
from les.testing.structures import dimer
from les_chgnet import CHGNetLES, LESCalculator, load_model, save_model


@pytest.fixture(scope="module")
def small_options(small_options):
    return {**small_options, "epochs": 1}


@pytest.fixture
def pickled(short_range_model, tmp_path):
    """A file of upstream's format that holds a module, and runs code when it is loaded."""
    path = tmp_path / "pickled.pth.tar"
    torch.save({"model": short_range_model.as_dict(), "module": torch.nn.Linear(1, 1)}, path)
    return path


# --- training


class TestTraining(TrainingTests):
    suffix = ".pth.tar"


def test_pickles_to_start_from(train, refused, arguments, pickled, tmp_path):
    fine_tuning = arguments(tmp_path / "run", **{"from": pickled, "model": None})
    error = refused("--les", *fine_tuning)
    assert f"{pickled} is a pickle" in error
    assert "--allow-pickle" in error
    (tmp_path / "some.yaml").write_text("allow_pickle: true\n")
    error = refused("--les", *fine_tuning, f"--config={tmp_path / 'some.yaml'}")
    assert "'allow_pickle' is given on the command line only" in error
    train("--les", *fine_tuning, "--allow_pickle")
    assert load_model(tmp_path / "run" / "small.pth.tar").les is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_room_for_what_upstream_prints(refused, arguments, tmp_path):
    (tmp_path / "small.log").symlink_to("/dev/full")
    error = refused("--no-les", *arguments(tmp_path))
    assert "No space left on device" in error
    assert str(tmp_path / "small.log") in error


# --- calculators


@pytest.mark.parametrize("method", [LESCalculator, LESCalculator.from_file])
def test_pickles_need_consent(method, pickled):
    with pytest.raises(PickleRefusedError, match="allow_pickle=True"):
        method(pickled)
    assert method(pickled, allow_pickle=True).les_config is None


def test_devices_and_heads(model, tmp_path, monkeypatch):
    save_model(model, tmp_path / "model.pth.tar")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for options in ({}, {"device": "auto"}, {"use_device": "cpu"}):
        calculator = LESCalculator(tmp_path / "model.pth.tar", **options)
        assert torch.device(calculator.device) == torch.device("cpu")
    for options in ({"device": "cuda"}, {"use_device": "cuda"}):
        with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA GPU here"):
            LESCalculator(tmp_path / "model.pth.tar", **options)
    with pytest.raises(ValueError, match="`device` and `use_device` are one argument"):
        LESCalculator(model, device="cpu", use_device="cuda")
    # As for all models, a GPU is taken if it is asked for.
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert LESCalculator(model).device == "cpu"
    monkeypatch.setenv("CHGNET_DEVICE", "cuda")  # upstream's
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA GPU here"):
        LESCalculator(model)
    with pytest.raises(ValueError, match=r"models of .*chgnet.* which have no heads, got .*'dft'"):
        get_backend("chgnet").calculator(tmp_path / "model.pth.tar", head="dft")


def test_keywords(model):
    """Upstream's own and ASE's keep working; its calculator ignores all others."""
    calculator = LESCalculator(
        copy.deepcopy(model), device="cpu", check_cuda_mem=False, stress_weight=1.0, label="water"
    )
    assert (calculator.stress_weight, calculator.label) == (1.0, "water")
    with pytest.raises(TypeError, match=r"keyword `stress_wait`; did you mean `stress_weight`\?"):
        LESCalculator(copy.deepcopy(model), stress_wait=1.0)


def test_arguments_of_a_model(chgnet_arguments):
    """Upstream ignores what it does not know."""
    with pytest.raises(ValueError, match="unknown key 'n_convs'; did you mean 'n_conv'"):
        CHGNetLES(**chgnet_arguments, n_convs=2)
    assert CHGNetLES(**chgnet_arguments, mlp_out_bias=True).model_args["mlp_out_bias"]


def test_single_precision_far_from_the_origin(model):
    calculator = LESCalculator(copy.deepcopy(model), dtype="float32", bec=True, device="cpu")
    near, far = dimer(), dimer()
    far.positions += [3e5, -2e5, 1e6]
    expected = results_of(calculator, near)
    actual = results_of(calculator, far)
    for key in ("energy", "les_energy", "charges", "dipole", "born_effective_charges"):
        assert actual[key] == pytest.approx(expected[key], abs=2e-5), key


def test_molecules_that_are_far_apart(model):
    """Upstream's search for neighbours needs memory for all the space between them."""
    apart = dimer()
    apart.positions[3:] += 1e6
    with pytest.raises(ValueError, match=r"extends over \[1000\d+\.\d.* has not enough memory"):
        LESCalculator(copy.deepcopy(model), dtype="float64", device="cpu").calculate(apart)


def test_damaged_pretrained_models(tmp_path, monkeypatch):
    """Upstream loads them without a look at the checksums that they hold."""
    folder = tmp_path / "pretrained" / "0.3.0"
    folder.mkdir(parents=True)
    torch.save({"weights": torch.arange(100.0)}, folder / "chgnet_0.3.0.pth.tar")
    content = bytearray((folder / "chgnet_0.3.0.pth.tar").read_bytes())
    start = content.find(torch.arange(100.0).numpy().tobytes())
    content[start : start + 64] = bytes(range(64))
    (folder / "chgnet_0.3.0.pth.tar").write_bytes(content)
    monkeypatch.setattr(les_chgnet.weights.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"chgnet_0\.3\.0\.pth\.tar is damaged: the checksum"):
        LESCalculator("0.3.0")


def test_nothing_is_printed(model, les_command, capsys, tmp_path):
    """Upstream prints how many parameters a model has, and where it runs."""
    save_model(model, tmp_path / "model.pth.tar")
    write(tmp_path / "water.xyz", dimer())
    capsys.readouterr()
    assert les_command("doctor", tmp_path / "model.pth.tar") == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path / 'model.pth.tar'}: chgnet, LES with sigma")
    assert "CHGNet" not in output.out + output.err
    LESCalculator("0.3.0", device="cpu")
    output = capsys.readouterr()
    assert output.out == output.err == ""
