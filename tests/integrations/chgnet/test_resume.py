"""Runs that are killed at any moment, and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from les_chgnet import load_model
from les_chgnet.trainer import ResumableTrainer


def final_state(folder):
    """All that a run has computed, but not how long it took."""
    state = torch.load(folder / "small_checkpoint.pth.tar", weights_only=True)
    best = torch.load(folder / "small_best.pth.tar", weights_only=True)
    history = json.loads((folder / "small_history.json").read_text())
    for record in [*history, *state["history"], *best["history"]]:
        assert record.pop("seconds") > 0
    return state, best, history, load_model(folder / "small.pth.tar").state_dict()


def assert_same(one, other):
    """Bit for bit, whatever the nesting."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other):
            assert_same(first, second)
    else:
        assert one == other


EPOCHS = 3
STAGES = "[{epochs: 2, forces: 1}, {epochs: 1, energy: 10, forces: 1}]"
WITH_DROPOUT = (
    "{atom_fea_dim: 8, bond_fea_dim: 8, angle_fea_dim: 8, n_conv: 2, atom_graph_cutoff: 4, "
    "bond_graph_cutoff: 2, conv_dropout: 0.2, mlp_dropout: 0.2}"
)


@pytest.fixture(scope="module")
def uninterrupted(train, arguments, tmp_path_factory):
    """A function for what a run with ``flag`` and ``changes`` leaves if nobody kills it."""
    known = {}

    def run(flag="--les", *flags, **changes):
        key = (flag, *flags, *changes.items())
        if key not in known:
            folder = tmp_path_factory.mktemp("whole")
            train(flag, *flags, *arguments(folder, **{"epochs": EPOCHS, **changes}))
            known[key] = final_state(folder)
        return known[key]

    return run


BEST, CHECKPOINT = "small_best.pth.tar", "small_checkpoint.pth.tar"
HISTORY, MODEL = "small_history.json", "small.pth.tar"


@pytest.mark.parametrize(
    ("file", "n"),
    [(BEST, 1), *((file, n) for n in (1, 2, EPOCHS) for file in (CHECKPOINT, HISTORY)), (MODEL, 1)],
)
def test_killed_while_writing(file, n, killed, train, uninterrupted, arguments, tmp_path):
    """In each epoch this is the order of the files."""
    options = arguments(tmp_path, epochs=EPOCHS)
    assert killed(file, n, "--les", *options) == 130
    assert not list(tmp_path.glob("*.part"))
    train("--les", "--resume", *options)
    assert_same(final_state(tmp_path), uninterrupted())


def test_killed_again_and_again(killed, train, uninterrupted, arguments, tmp_path):
    options = ["--no-les", "--resume", *arguments(tmp_path, epochs=EPOCHS)]
    attempts = 0
    while killed(CHECKPOINT, 2, *options) == 130:
        attempts += 1
        assert attempts < 10
    assert attempts > 1
    assert_same(final_state(tmp_path), uninterrupted("--no-les"))


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--freeze_short_range_epochs=99"], {}),
        (["--freeze_short_range_epochs=1"], {"stages": STAGES}),
        ([], {"atomic_energies": "train"}),
        ([], {"model": WITH_DROPOUT}),
        ([], {"trainer": "{scheduler: ExponentialLR, optimizer: AdamW, criterion: Huber}"}),
        ([], {"trainer": "{scheduler_params: {decay_fraction: 0.1}}", "learning_rate": 0.01}),
        ([], {"trainer": "{scheduler: CosRestartLR}"}),
    ],
    ids=["frozen", "stages", "energies", "dropout", "trainer", "decay", "restarts"],
)
def test_what_continues(flags, changes, killed, train, uninterrupted, arguments, tmp_path):
    options = ["--les", *flags, *arguments(tmp_path, epochs=EPOCHS, **changes)]
    assert killed(HISTORY, 2, *options) == 130
    train("--resume", *options)
    assert_same(final_state(tmp_path), uninterrupted("--les", *flags, **changes))


@pytest.mark.parametrize("changes", [{}, {"charge_learning_rate": 3e-3}])
def test_start_is_not_needed_to_continue(
    changes, killed, short_range_run, train, arguments, tmp_path
):
    """Neither is its learning rate of the charges, which may be one of their own."""
    start = tmp_path / "start.pth.tar"
    start.write_bytes((short_range_run / MODEL).read_bytes())
    fine_tuning = {"epochs": EPOCHS, "from": start, "model": None, **changes}
    train("--les", *arguments(tmp_path / "whole", **fine_tuning))
    options = arguments(tmp_path / "killed", **fine_tuning)
    assert killed(HISTORY, 2, "--les", *options) == 130
    start.unlink()
    train("--les", "--resume", *options)
    assert_same(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


def test_frozen_part_of_a_continued_run(killed, train, arguments, tmp_path):
    options = ["--les", "--freeze_short_range_epochs=99", *arguments(tmp_path, epochs=EPOCHS)]
    assert killed(HISTORY, 1, *options) == 130
    before = load_model(tmp_path / "small_checkpoint.pth.tar").state_dict()
    train("--resume", *options)
    after = load_model(tmp_path / "small_checkpoint.pth.tar").state_dict()
    for key, value in before.items():
        frozen = not key.startswith("les.") or key == "les.settings"
        assert torch.equal(after[key], value) == frozen, key


@pytest.mark.slow
def test_killed_process(uninterrupted, train, arguments, tmp_path):
    """Without a chance to clean up."""
    changes = {"epochs": 20}
    options = arguments(tmp_path, **changes)
    command = [sys.executable, "-m", "les", "train", "chgnet", "--les", *options]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    history = tmp_path / "small_history.json"
    try:
        deadline = time.monotonic() + 120
        while not history.exists() or len(json.loads(history.read_text())) < 2:
            assert process.poll() is None, (tmp_path / "output").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "small.pth.tar").exists()
    train("--les", "--resume", *options)
    assert_same(final_state(tmp_path), uninterrupted(**changes))


def test_resume_of_nothing(train, uninterrupted, arguments, tmp_path):
    train("--les", "--resume", *arguments(tmp_path, epochs=EPOCHS))
    assert_same(final_state(tmp_path), uninterrupted())


def test_resume_of_what_is_done(train, uninterrupted, arguments, tmp_path):
    options = ["--les", *arguments(tmp_path, epochs=EPOCHS)]
    train(*options)
    written = (tmp_path / "small_checkpoint.pth.tar").stat().st_mtime_ns
    train("--resume", *options)
    assert (tmp_path / "small_checkpoint.pth.tar").stat().st_mtime_ns == written
    assert_same(final_state(tmp_path), uninterrupted())


def test_what_is_continued_is_said(train, arguments, caplog, tmp_path):
    train("--les", *arguments(tmp_path, epochs=2))
    caplog.set_level("INFO", logger="les")
    train("--les", "--resume", *arguments(tmp_path, epochs=2))
    assert "continuing after epoch 2" in caplog.text


# --- what is refused


@pytest.fixture(scope="module")
def run(train, arguments, tmp_path_factory):
    """Folder of a run of one epoch; tests must not change it."""
    folder = tmp_path_factory.mktemp("run")
    trainer = "{scheduler_params: {decay_fraction: 0.2}}"
    train("--les", *arguments(folder, epochs=1, trainer=trainer))
    return folder


def test_runs_are_not_overwritten(run, refused, arguments):
    content = (run / "small_checkpoint.pth.tar").read_bytes()
    for flag in ("--les", "--no-les"):
        error = refused(flag, *arguments(run))
        assert f"{run / CHECKPOINT} is there already: continue that run with --resume" in error
    assert (run / "small_checkpoint.pth.tar").read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.01),
        ("batch_size", 3),
        ("seed", 4),
        ("targets", "efm"),
        ("force_loss_ratio", 2.0),
        ("atomic_energies", "keep"),
        ("model", "{n_conv: 3}"),
        ("les_arguments", "{sigma: 1.1}"),
        ("trainer", "{scheduler_params: {decay_fraction: 0.3}}"),
        ("energy_key", "energy"),
    ],
)
def test_other_settings(key, value, run, refused, arguments):
    trainer = "{scheduler_params: {decay_fraction: 0.2}}"
    options = arguments(run, **{"epochs": 1, "trainer": trainer, key: value})
    error = refused("--les", "--resume", *options)
    assert f"is of a run with `{key}` =" in error
    assert len(json.loads((run / "small_history.json").read_text())) == 1


def test_with_and_without_les_do_not_mix(run, refused, train, arguments, tmp_path):
    trainer = "{scheduler_params: {decay_fraction: 0.2}}"
    error = refused("--no-les", "--resume", *arguments(run, epochs=2, trainer=trainer))
    assert "small_checkpoint.pth.tar is of a run with" in error
    train("--no-les", *arguments(tmp_path, epochs=1))
    for options in ([], ["--charge_learning_rate=0.1"]):
        error = refused("--les", "--resume", *options, *arguments(tmp_path, epochs=1))
        assert "small_checkpoint.pth.tar is of a run with" in error


def test_other_data(run, refused, arguments, data_files, tmp_path):
    """A data file may move, but not change."""
    trainer = "{scheduler_params: {decay_fraction: 0.2}}"
    options = {"epochs": 1, "trainer": trainer}
    moved, other = tmp_path / "moved.xyz", tmp_path / "other.xyz"
    moved.write_bytes(data_files[0].read_bytes())
    other.write_bytes(data_files[1].read_bytes())
    error = refused("--les", "--resume", *arguments(run, **options, train_file=other))
    assert "is of a run with other contents of `train_file`" in error
    error = refused("--les", "--resume", *arguments(run, **options, seed=9, train_file=moved))
    assert "is of a run with `seed` =" in error


def test_checkpoint_of_something_else(run, refused, arguments, tmp_path):
    path = tmp_path / CHECKPOINT
    path.write_bytes((run / MODEL).read_bytes())
    error = refused("--les", "--resume", *arguments(tmp_path))
    assert f"{path} is no state of a training: it lacks 'optimizer'" in error
    path.write_text("damaged")
    error = refused("--les", "--resume", *arguments(tmp_path))
    assert f"{path} (7 bytes) is no CHGNet model" in error


# --- divergence


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_divergence(flag, refused, arguments, tmp_path):
    error = refused(flag, *arguments(tmp_path, epochs=5, learning_rate=1e25))
    assert "training diverged" in error
    assert "--learning_rate" in error
    assert not (tmp_path / "small.pth.tar").exists()


@pytest.mark.parametrize("letter", ["e", "f"])
@pytest.mark.parametrize("step", ["_train", "_validate"])
def test_divergence_of_one_target(step, letter, monkeypatch, refused, arguments, tmp_path):
    """The files of the epoch before stay as they are; upstream looks at energies only."""
    original = getattr(ResumableTrainer, step)
    calls = 0

    def spoil(model, inputs, out):
        out[letter] = [nan * x for x in out[letter]] if letter == "f" else nan * out[letter]

    def diverging(self, *positional, **keyword):
        nonlocal calls
        calls += 1
        if calls == 2:
            self.model.register_forward_hook(spoil)
        return original(self, *positional, **keyword)

    nan = float("nan")
    monkeypatch.setattr(ResumableTrainer, step, diverging)
    error = refused("--no-les", *arguments(tmp_path, epochs=3))
    assert "training diverged" in error
    assert "epoch 1" in error
    for name in ("checkpoint", "best"):
        state = torch.load(tmp_path / f"small_{name}.pth.tar", weights_only=True)
        assert len(state["history"]) == 1
        assert all(value.isfinite().all() for value in state["model"]["state_dict"].values())
    assert not (tmp_path / "small.pth.tar").exists()
