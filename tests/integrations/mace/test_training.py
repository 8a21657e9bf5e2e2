"""Training through upstream's command line: short real runs."""

from __future__ import annotations

import json
import re

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase.io import read
from mace.modules import ScaleShiftMACE

from les.backends import TrainingJob
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, load_model
from les_mace.backend import MACEBackend


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
    assert type(load_model(tmp_path / "water.pt")) is MACELES
    assert type(load_model(tmp_path / "water_sr.pt")) is ScaleShiftMACE


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
    assert backend.trained_model(job) == les_run / "small.pt"
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
    # ... and a file that loads without running code.
    plain = load_model(short_range_run / "small.pt")
    assert type(plain) is ScaleShiftMACE
    for key, value in plain.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_closing(flag, train, data_files, arguments, caplog, tmp_path):
    """Errors as anyone would compute them, the best model, how to use it; also of a test file."""
    options = arguments(tmp_path, max_num_epochs=1, test_file=data_files[1], loss="stress")
    train(flag, *options)
    text = caplog.text[caplog.text.index("best model: ") :]
    assert text.startswith(f"best model: {tmp_path / 'small.pt'}")
    assert f"les predict {tmp_path / 'small.pt'} structures.xyz" in text
    assert f"LESCalculator('{tmp_path / 'small.pt'}')" in text
    calculator = LESCalculator(tmp_path / "small.pt")
    frames = read(data_files[1], ":")
    errors = [
        results_of(calculator, atoms)["forces"] - atoms.arrays["REF_forces"] for atoms in frames
    ]
    mae = 1000.0 * np.abs(np.concatenate(errors)).mean()
    rows = [line.split("|") for line in text.splitlines() if line.startswith(("valid", "test"))]
    assert len(rows) == 2
    for row in rows:
        assert float(row[2].split("/")[0]) == pytest.approx(mae, rel=0.01)


@pytest.mark.slow
def test_two_heads(train, les_command, data_files, arguments, caplog, tmp_path):
    """A head is trained on data of its own, and named where the model is used."""
    train_file, valid_file = map(str, data_files)
    heads = {
        name: {"train_file": train_file, "valid_file": valid_file, "E0s": "average"}
        for name in ("pbe", "scan")
    }
    train("--les", *arguments(tmp_path, max_num_epochs=1, heads=repr(heads)))
    for head in heads:
        assert f"best model: {tmp_path / 'small.pt'}, head {head}" in caplog.text
        assert f"errors of the best model, head {head}:" in caplog.text
        assert results_of(LESCalculator(tmp_path / "small.pt", head=head), dimer())["les_energy"]
    assert les_command("doctor", tmp_path / "small.pt") == 0


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


@pytest.mark.parametrize("epochs", [1, 2])
def test_charges_first(epochs, initial_state, train, arguments, tmp_path):
    """With averages of the weights; after that the short-range part is trained, too."""
    options = [*arguments(tmp_path), f"--freeze_short_range_epochs={epochs}", "--ema"]
    options += ["--keep_checkpoints", "--save_all_checkpoints"]
    before = initial_state("--les", options)
    train("--les", *options)
    (path,) = tmp_path.glob("checkpoints/*_epoch-1.pt")
    after = torch.load(path, weights_only=True)["model"]
    readout = "les_readouts.0.linear.weight"
    products = [key for key in before if key.startswith("products.0.symm")]
    assert products
    assert not torch.equal(before[readout], after[readout])
    assert all(torch.equal(before[key], after[key]) for key in products) == (epochs == 2)


# --- what is refused


def test_what_upstream_refuses_is_a_sentence(refused, arguments, tmp_path):
    given = [text for text in arguments(tmp_path) if not text.startswith("--E0s")]
    assert refused(given) == "les: error: mace-torch: Atomic energies must be provided"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "BOTNet"}, r"`--model` must be one of .*'MACELES'.* with --les, got 'BOTNet'"),
        ({"les_arguments": "les.yaml"}, "unknown key 'sigmaa'; did you mean 'sigma'"),
        ({"les_arguments": "{sigma: -1.0}"}, "`sigma` must be"),
        ({"name": "../../x"}, "--name must be the start of file names, without folders"),
        ({"device": "gpu"}, "`device` must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"radial_type": "gaussian"}, "`--radial_type` must be bessel, got gaussian: mace-torch"),
        ({"max_num_epochs": 1, "start_swa": 1}, "second stage starts after epoch 1 of 1"),
        ({"batch_size": 13}, "--batch_size 13 is more than the 12 structures to train on"),
    ],
)
def test_bad_arguments(changes, message, refused, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "les.yaml").write_text("sigmaa: 1.2\n")
    error = refused(arguments(tmp_path, **changes))
    assert re.search(message, error), error
