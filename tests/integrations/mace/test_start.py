"""Training that starts from a trained model, with charges or without."""

from __future__ import annotations

import re

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase.io import read, write
from mace.modules import ScaleShiftMACE
from mace.tools.torch_tools import default_dtype

from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, load_model, save_model


@pytest.mark.parametrize("ending", [".pt", ".model"])
def test_from_a_trained_short_range_model(ending, train, short_range_run, arguments, tmp_path):
    start = short_range_run / f"small{ending}"
    consent = ["--allow-pickle"] * (ending == ".model")
    train("--les", *arguments(tmp_path, lr=1e-9), f"--from={start}", *consent)
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
    save_model(start, tmp_path / "start.pt")
    given = [text for text in arguments(tmp_path) if not text.startswith("--E0s")]
    state = initial_state("--les", [*given, f"--from={tmp_path / 'start.pt'}"])
    for key, value in start.state_dict().items():
        torch.testing.assert_close(state[key].reshape(value.shape), value, msg=key)


@pytest.mark.parametrize("option", ["from", "foundation_model"])
def test_from_a_model_with_charges(option, train, les_run, arguments, tmp_path):
    """It goes on with its own charges and settings."""
    start = load_model(les_run / "small.pt")
    train("--les", *arguments(tmp_path, lr=1e-9, **{option: les_run / "small.pt"}))
    after = load_model(tmp_path / "small.pt")
    assert after.les.config() == start.les.config()
    for key, value in start.state_dict().items():
        torch.testing.assert_close(after.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)


def test_from_without_les(train, short_range_run, arguments, tmp_path):
    start = load_model(short_range_run / "small.pt")
    options = arguments(tmp_path, lr=1e-9, **{"from": short_range_run / "small.pt"})
    train("--no-les", *options)
    after = load_model(tmp_path / "small.pt")
    assert type(after) is ScaleShiftMACE
    for key, value in start.state_dict().items():
        torch.testing.assert_close(after.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)


def test_atomic_energies_that_are_given(train, short_range_run, arguments, tmp_path):
    """Upstream says that it uses them, and takes those of the start."""
    start = {"from": short_range_run / "small.pt", "E0s": "{1: -0.5, 8: -7.0}"}
    train("--no-les", *arguments(tmp_path, lr=1e-9, max_num_epochs=1, **start))
    energies = load_model(tmp_path / "small.pt").atomic_energies_fn.atomic_energies
    torch.testing.assert_close(energies.reshape(-1), torch.tensor([-0.5, -7.0]).double())


def test_charges_follow_the_seed(initial_state, short_range_run, arguments, tmp_path):
    options = [*arguments(tmp_path), f"--from={short_range_run / 'small.pt'}"]
    first, again = initial_state("--les", options), initial_state("--les", options)
    other = initial_state("--les", [*options, "--seed=4"])
    key = "les_readouts.0.linear.weight"
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])


@pytest.mark.parametrize(
    ("flag", "changes", "message"),
    [
        ("--les", {"from": "nowhere.model"}, "no MACE model file nowhere.model"),
        ("--les", {"from": "les.yaml"}, "les.yaml .* is no MACE model"),
        ("--les", {"from": "x.model", "foundation_model": "small"}, "exclude each other"),
        ("--les", {"from": "{sr}.model"}, r"is a pickle.*--allow-pickle"),
        ("--no-les", {"from": "{sr}.model"}, r"is a pickle.*--allow-pickle"),
        ("--no-les", {"foundation_model": "{sr}.model"}, r"is a pickle.*--allow-pickle"),
        ("--les", {"foundation_model": "small"}, r"small is no file.* a pickle.*--allow-pickle"),
        ("--no-les", {"from": "{les}.pt"}, "has LES: continue it with --les"),
        (
            "--les",
            {"from": "{les}.pt", "les_arguments": "{sigma: 2.0}"},
            "has LES with settings of its own: leave out --les_arguments",
        ),
    ],
)
def test_starts_that_are_refused(
    flag, changes, message, refused, les_run, short_range_run, arguments, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "les.yaml").write_text("sigma: 1.2\n")
    names = {"{sr}": short_range_run / "small", "{les}": les_run / "small"}
    for name, path in names.items():
        changes = {key: value.replace(name, str(path)) for key, value in changes.items()}
    error = refused(arguments(tmp_path, **changes), flag)
    assert re.search(message, error), error


def test_elements_that_the_start_does_not_know(
    refused, short_range_run, data_files, arguments, tmp_path
):
    frames = read(data_files[0], ":")
    frames[3].symbols[0] = "Au"
    write(tmp_path / "gold.xyz", frames, format="extxyz")
    start = {"from": short_range_run / "small.pt", "train_file": tmp_path / "gold.xyz"}
    error = refused(arguments(tmp_path, **start))
    assert "gold.xyz: frame 3: the model knows the elements H, O, got Au" in error


def test_trained_charges_are_not_lost_to_other_heads(
    refused, les_run, data_files, arguments, tmp_path
):
    train_file, valid_file = map(str, data_files)
    heads = {name: {"train_file": train_file, "valid_file": valid_file} for name in ("a", "b")}
    error = refused(arguments(tmp_path, **{"from": les_run / "small.pt", "heads": repr(heads)}))
    assert "charges of a model with LES fit a model of one head, this has a, b" in error


def test_a_pickle_does_not_become_plain_by_its_name(refused, short_range_run, arguments, tmp_path):
    (tmp_path / "named.pt").write_bytes((short_range_run / "small.model").read_bytes())
    error = refused(arguments(tmp_path, **{"from": tmp_path / "named.pt"}))
    assert "named.pt is a pickle" in error
