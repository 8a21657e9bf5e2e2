"""Training through upstream's command line: short real runs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from mace.modules import ScaleShiftMACE
from mace.tools.torch_tools import default_dtype

from les.backends import TrainingJob
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, load_model
from les_mace.backend import MACEBackend


@pytest.fixture(scope="module")
def les_run(train, arguments, tmp_path_factory):
    """Folder of a run with LES."""
    folder = tmp_path_factory.mktemp("les")
    train("--les", *arguments(folder))
    return folder


@pytest.fixture(scope="module")
def short_range_run(train, arguments, tmp_path_factory):
    """Folder of a run without LES."""
    folder = tmp_path_factory.mktemp("sr")
    train("--no-les", *arguments(folder))
    return folder


def epochs_of(folder, name="small"):
    """Epochs in upstream's record of a run."""
    lines = (folder / "results" / f"{name}_run-3_train.txt").read_text().splitlines()
    return [record["epoch"] for record in map(json.loads, lines) if record["mode"] == "opt"]


def test_run_with_les(les_run):
    """Leaves upstream's files and one that loads without running code."""
    pickled = load_model(les_run / "small.model", allow_pickle=True)
    model = load_model(les_run / "small.pt")
    assert type(pickled) is type(model) is MACELES
    assert model.les.config().cutoff == "smooth"
    for structure in (dimer(), crystal()):
        expected = results_of(LESCalculator(pickled), structure)
        actual = results_of(LESCalculator(model), structure)
        assert actual["les_energy"] != 0.0
        for key in ("energy", "forces", "charges"):
            np.testing.assert_array_equal(actual[key], expected[key])


def test_runs_whose_names_begin_alike(train, arguments, tmp_path):
    """The safe file of a run is made of its own model only, whatever else is in the folder."""
    train("--no-les", *arguments(tmp_path, name="water_sr", max_num_epochs=1))
    train("--les", *arguments(tmp_path, name="water", max_num_epochs=1))
    assert [path.name for path in tmp_path.glob("*.pt")] == ["water.pt"]
    assert isinstance(load_model(tmp_path / "water.pt"), MACELES)


def test_scripted_model_of_a_run(les_run, mace_batch):
    """Upstream skips writing it without a word if the model cannot be scripted."""
    scripted = torch.jit.load(les_run / "small_compiled.model")
    expected = load_model(les_run / "small.pt")(mace_batch([crystal()]))
    actual = scripted(mace_batch([crystal()]))
    torch.testing.assert_close(actual["energy"], expected["energy"])


def test_charges_are_trained(les_run, initial_state, arguments, tmp_path):
    start = initial_state("--les", arguments(tmp_path))
    trained = load_model(les_run / "small.pt").state_dict()
    for key in start:
        if key.startswith("les_readouts") and key.endswith("weight"):
            assert (trained[key] - start[key]).abs().max() > 1e-4, key


def test_history(les_run, data_files):
    job = TrainingJob("small", les_run, les_run / "none.yaml", *data_files, seed=3)
    backend = MACEBackend()
    assert backend.trained_model(job) == les_run / "small.model"
    history = backend.history(job)
    assert [record.epoch for record in history] == [0, 1]
    assert all(record.seconds > 0 for record in history)
    assert all(np.isfinite(record.valid_force_rmse) for record in history)


def test_without_les_is_upstreams_own_run(short_range_run, arguments, run_program, tmp_path):
    """Bit for bit that of ``mace_run_train`` in a process that never saw les_mace."""
    run_program("-m", "mace.cli.run_train", *arguments(tmp_path))
    ours = load_model(short_range_run / "small.model", allow_pickle=True)
    theirs = load_model(tmp_path / "small.model", allow_pickle=True)
    assert type(ours) is ScaleShiftMACE
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, expected[key]), key
    for structure in (dimer(), crystal()):
        actual, reference = (
            results_of(LESCalculator(model), structure) for model in (ours, theirs)
        )
        assert actual["energy"] == reference["energy"]
        np.testing.assert_array_equal(actual["forces"], reference["forces"])
    assert not list(short_range_run.glob("*.pt"))


@pytest.mark.parametrize("model", ["MACE", "ScaleShiftMACE"])
def test_backbone_starts_from_the_same_weights(model, initial_state, arguments, tmp_path):
    options = arguments(tmp_path, model=model)
    short_range = initial_state("--no-les", options)
    long_range = initial_state("--les", options)
    added = set(long_range) - set(short_range)
    assert added
    assert all(key.startswith(("les.", "les_readouts.")) for key in added)
    for key, value in short_range.items():
        assert torch.equal(long_range[key], value), key


@pytest.mark.parametrize("system", ["water", "dipeptides", "au2_mgo"])
def test_shipped_configurations(
    system, les_command, initial_state, data_files, tmp_path, monkeypatch
):
    """``les config copy`` gives a file that upstream accepts."""
    monkeypatch.chdir(tmp_path)
    assert les_command("config", "copy", f"mace/{system}") == 0
    train_file, valid_file = data_files
    options = [
        f"--config={system}.yaml",
        "--name=copied",
        f"--train_file={train_file}",
        f"--valid_file={valid_file}",
        f"--work_dir={tmp_path}",
    ]
    state = initial_state("--les", options)
    assert state["atomic_energies_fn.atomic_energies"].dtype == torch.float32


def test_upstreams_own_command_with_les_arguments(arguments, run_program, tmp_path):
    """``mace_run_train --model MACELES`` works unchanged with this package installed."""
    (tmp_path / "les.yaml").write_text("sigma: 1.2\ndl: 1.8\nuse_atomwise: false\n")
    options = arguments(tmp_path, model="MACELES", les_arguments=tmp_path / "les.yaml")
    run_program("-m", "mace.cli.run_train", *options, "--max_num_epochs=1")
    model = load_model(tmp_path / "small.model", allow_pickle=True)
    config = model.les.config()
    assert (config.sigma, config.dl, config.cutoff) == (1.2, 1.8, "sharp")
    results = results_of(LESCalculator(model), crystal())
    assert results["les_energy"] != 0.0
    assert np.isfinite(results["stress"]).all()


def test_settings_of_les(initial_state, arguments, tmp_path):
    """``--les`` starts from the defaults of LESConfig, and takes upstream's flag."""
    (tmp_path / "les.yaml").write_text("sigma: 1.2\n")
    options = arguments(tmp_path, les_arguments=tmp_path / "les.yaml")
    state = initial_state("--les", options)
    settings = json.loads(bytes(state["les.settings"].tolist()).decode())
    assert (settings["sigma"], settings["dl"], settings["cutoff"]) == (1.2, 2.0, "smooth")


def test_from_a_trained_short_range_model(train, short_range_run, arguments, tmp_path):
    start = short_range_run / "small.model"
    train("--les", *arguments(tmp_path, lr=1e-9), f"--from={start}")
    short_range = load_model(start, allow_pickle=True)
    long_range = load_model(tmp_path / "small.pt")
    assert type(long_range) is MACELES
    # Steps of 1e-9: the backbone is that of the start, and the charges are small.
    weights = long_range.state_dict()
    for key, value in short_range.state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6)
    for structure in (dimer(), crystal()):
        before = results_of(LESCalculator(short_range), structure)
        after = results_of(LESCalculator(long_range), structure)
        assert after["energy"] - before["energy"] == pytest.approx(after["les_energy"], abs=1e-6)
        assert 0 < abs(after["les_energy"]) < 0.1 * len(structure)
        assert 0 < np.abs(after["charges"]).max() < 0.5


def test_from_keeps_every_weight(initial_state, mace_arguments, arguments, tmp_path):
    """Also what upstream sets anew for its own fine-tuning: scale, shift, E0s."""
    settings = {"atomic_inter_scale": 1.7, "atomic_inter_shift": 0.3}
    with default_dtype(torch.float64):
        start = ScaleShiftMACE(**{**mace_arguments, **settings})
    torch.save(start, tmp_path / "start.model")
    given = [text for text in arguments(tmp_path) if not text.startswith("--E0s")]
    state = initial_state("--les", [*given, f"--from={tmp_path / 'start.model'}"])
    for key, value in start.state_dict().items():
        torch.testing.assert_close(state[key].reshape(value.shape), value, msg=key)


def test_from_a_model_with_charges(les_run, refused, arguments, tmp_path):
    error = refused([*arguments(tmp_path), f"--from={les_run / 'small.pt'}"])
    assert "must be a short-range ScaleShiftMACE, got MACELES" in error


def test_resume_after_a_kill(train, arguments, tmp_path):
    options = arguments(tmp_path, max_num_epochs=1000)
    command = [sys.executable, "-m", "les", "train", "mace", "--les", *options]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not (saved := checkpointed_epoch(process, tmp_path / "checkpoints")):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    interrupted = epochs_of(tmp_path)
    train("--les", *arguments(tmp_path, max_num_epochs=saved + 3), "--restart_latest")
    added = epochs_of(tmp_path)[len(interrupted) :]
    assert sorted(set(added)) == [saved, saved + 1, saved + 2]  # upstream repeats the last
    assert (tmp_path / "small.pt").is_file()


def checkpointed_epoch(process, folder):
    """Stop ``process``; let it go on, and return ``None``, unless a later epoch is saved.

    Upstream deletes the old checkpoint before it writes the new one, so that a kill in this
    moment would lose both.
    """
    process.send_signal(signal.SIGSTOP)
    for path in folder.glob("*_epoch-*.pt"):
        epoch = int(path.stem.rpartition("-")[2])
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=False)
            if epoch > 0:
                return epoch
    process.send_signal(signal.SIGCONT)
    return None


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "BOTNet"}, r"`--model` must be one of .*'MACELES'.* with --les, got 'BOTNet'"),
        ({"les_arguments": "les.yaml"}, "unknown key 'sigmaa'; did you mean 'sigma'"),
        ({"from": "nowhere.model"}, "no model file nowhere.model"),
        ({"from": "les.yaml"}, "les.yaml cannot be loaded"),
        ({"from": "x.model", "foundation_model": "small"}, "exclude each other"),
    ],
)
def test_bad_arguments(changes, message, refused, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "les.yaml").write_text("sigmaa: 1.2\n")
    error = refused(arguments(tmp_path, **changes))
    assert re.search(message, error), error
