"""Runs that start from a trained model, with and without LES."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_nequip import LESCalculator, TrainedModel, load_model, save_model

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture(scope="module")
def small_options(make_config):
    """Steps of 1e-9: a trained model stays what it is."""
    path = make_config()
    content = yaml.safe_load(path.read_text())
    content["training_module"]["optimizer"] = {"_target_": "torch.optim.Adam", "lr": 1e-9}
    path.write_text(yaml.safe_dump(content))
    return {"config": path, "name": "run", "epochs": 1}


@pytest.fixture(scope="module")
def trained(train, arguments, make_config, tmp_path_factory):
    """Folders of a short-range run and of one with LES, by flag."""
    folders = {flag: tmp_path_factory.mktemp("trained") for flag in ("--les", "--no-les")}
    for flag, folder in folders.items():
        train(flag, *arguments(folder, config=make_config(num_layers=2), epochs=2))
    return folders


@pytest.fixture(scope="module")
def package(trained, tmp_path_factory):
    return packaged(trained["--no-les"] / "run" / "best.ckpt", tmp_path_factory.mktemp("package"))


def packaged(best, folder):
    path = folder / "model.nequip.zip"
    program = Path(sys.executable).with_name("nequip-package")
    result = subprocess.run(
        [program, "build", best, path], capture_output=True, text=True, cwd=path.parent
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return path


@pytest.fixture(params=["run.nequip.pt", "run/best.ckpt", "package"])
def start(request, trained):
    """A short-range model in all kinds of files, and what it needs to be read."""
    if request.param == "package":
        return request.getfixturevalue("package"), ["--allow-pickle"]
    return trained["--no-les"] / request.param, []


def test_les_is_added(start, trained, train, arguments, tmp_path):
    path, consent = start
    train("--les", *arguments(tmp_path, **{"from": path, "atomic_energies": "keep"}), *consent)
    short_range = LESCalculator(trained["--no-les"] / "run.nequip.pt")
    # Checkpoint and model file do not need the file that the run has started from.
    for file in ("run.nequip.pt", "run/best.ckpt"):
        long_range = LESCalculator(tmp_path / file, allow_pickle=bool(consent))
        for structure in (dimer(), crystal()):
            before, after = results_of(short_range, structure), results_of(long_range, structure)
            change = after["energy"] - before["energy"]
            assert change == pytest.approx(after["les_energy"], abs=1e-6)
            assert 0 < abs(after["les_energy"]) < 0.1 * len(structure)
            assert 0 < np.abs(after["charges"]).max() < 0.5


@pytest.mark.slow
def test_package_of_a_model_with_les(trained, tmp_path):
    """It has a copy of the code, which finds the layers of the copy of nequip in it."""
    path = packaged(trained["--les"] / "run" / "best.ckpt", tmp_path)
    for bec in (True, "phase"):
        model, copy = (
            LESCalculator(file, bec=bec, allow_pickle=True)
            for file in (trained["--les"] / "run.nequip.pt", path)
        )
        (les,) = copy.les_modules
        assert type(les).__module__.startswith("<torch_package_")
        for structure in (dimer(), crystal()):
            expected, actual = results_of(model, structure), results_of(copy, structure)
            assert np.abs(expected["born_effective_charges"]).max() > 1e-6
            for key, value in expected.items():
                np.testing.assert_allclose(actual[key], value, rtol=0, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
@pytest.mark.parametrize("file", ["run.nequip.pt", "run/best.ckpt"])
def test_model_is_trained_further(flag, file, trained, train, arguments, tmp_path):
    """With LES or without, as it is."""
    start = {"from": trained[flag] / file, "atomic_energies": "keep"}
    train(flag, *arguments(tmp_path, **start))
    expected, actual = (
        LESCalculator(folder / "run.nequip.pt") for folder in (trained[flag], tmp_path)
    )
    assert actual.long_range == (flag == "--les")
    for structure in (dimer(), crystal()):
        before, after = results_of(expected, structure), results_of(actual, structure)
        for key, value in before.items():
            np.testing.assert_allclose(after[key], value, rtol=0, atol=1e-5, err_msg=key)


def test_start_is_not_needed_any_more(trained, train, arguments, tmp_path):
    """Neither by the model, nor by its checkpoint in upstream's programs."""
    start = tmp_path / "start.nequip.pt"
    start.write_bytes((trained["--no-les"] / "run.nequip.pt").read_bytes())
    train("--les", *arguments(tmp_path, **{"from": start}))
    expected = results_of(LESCalculator(tmp_path / "run.nequip.pt"), dimer())
    start.unlink()
    for trust in (False, True):
        checkpoint = LESCalculator(tmp_path / "run" / "best.ckpt", allow_pickle=trust)
        assert results_of(checkpoint, dimer())["energy"] == pytest.approx(expected["energy"])
    from nequip.integrations.ase import NequIPCalculator

    upstream = NequIPCalculator._from_saved_model(
        tmp_path / "run" / "best.ckpt", chemical_species_to_atom_type_map=True
    )
    assert results_of(upstream, dimer())["energy"] == pytest.approx(expected["energy"])


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_mode_of_training(mode, trained):
    """Models can be compiled for training whatever they were before, with the same weights."""
    model = TrainedModel(str(trained["--les"] / "run.nequip.pt"), compile_mode=mode)
    assert model.is_compile_graph_model == (mode == "compile")
    expected = load_model(trained["--les"] / "run/best.ckpt").state_dict()
    assert model.state_dict().keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("flag", "of", "extra", "message"),
    [
        ("--no-les", "--les", [], "has LES; train it further with --les"),
        ("--les", "--les", ["--les_arguments={sigma: 2}"], "has LES already, with its own sett"),
        ("--les", "--no-les", ["--model={l_max: 1}"], "--from excludes --model"),
    ],
)
def test_refusals(refused, arguments, trained, flag, of, extra, message, tmp_path):
    start = trained[of] / "run.nequip.pt"
    assert message in refused(flag, *arguments(tmp_path, **{"from": start}), *extra)


def test_package_needs_trust(refused, arguments, package, tmp_path):
    error = refused("--les", *arguments(tmp_path, **{"from": package}))
    assert "is a package" in error and "--allow-pickle" in error


@pytest.mark.parametrize("name", ["nowhere.ckpt", "model.pt", "model.nequip.pt2"])
def test_other_files(refused, arguments, name, tmp_path):
    if name != "nowhere.ckpt":
        (tmp_path / name).write_bytes(b"something")
    error = refused("--les", *arguments(tmp_path, **{"from": tmp_path / name}))
    assert name in error
    assert "--allow-pickle" not in error


def test_models_can_be_saved_again(trained, tmp_path):
    model = load_model(trained["--les"] / "run.nequip.pt")
    save_model(model, tmp_path / "again.nequip.pt")
    again = load_model(tmp_path / "again.nequip.pt")
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the trap ran')",))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("nequip.model.ModelFromCheckpoint", "checkpoint_path"),
        ("nequip.model.saved_models.ModelFromPackage", "package_path"),
        ("les_nequip.TrainedModel", "model_file"),
    ],
)
def test_files_that_a_configuration_names(refused, arguments, target, key, nested, tmp_path):
    """They are read with the consent of who writes the command, and with no other."""
    evil = tmp_path / "evil.ckpt"
    torch.save({"hyper_parameters": Trap()}, evil)
    model = f"{{_target_: {target}, {key}: '{evil}'"
    model += ", allow_pickle: true}" if target.startswith("les") else "}"
    if nested:
        model = f"{{_target_: les_nequip.AddLES, model: {model}}}"
    options = ["~training_module.model", f"+training_module.model={model}"]
    flag = "--les" if nested else "--no-les"
    error = refused(flag, *arguments(tmp_path / "new"), *options)
    assert "the configuration" in error
    assert target in error
    assert "--allow-pickle" in error


def test_damaged_file_that_a_configuration_names(refused, arguments, tmp_path):
    (tmp_path / "half.ckpt").write_bytes(b"PK\x03\x04")
    section = {"_target_": "nequip.model.ModelFromCheckpoint"}
    section["checkpoint_path"] = tmp_path / "half.ckpt"
    model = ", ".join(f"{key}: '{value}'" for key, value in section.items())
    options = ["~training_module.model", f"+training_module.model={{{model}}}", "--allow-pickle"]
    error = refused("--no-les", *arguments(tmp_path / "new"), *options)
    assert "half.ckpt is truncated or damaged" in error


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_run_from_a_model_is_continued(flag, trained, train, arguments, make_config, tmp_path):
    """Its model section is that of the checkpoint."""
    start = {"from": trained["--no-les"] / "run.nequip.pt"}
    train(flag, *arguments(tmp_path, **start))
    train(flag, *arguments(tmp_path, **start), "--resume")
