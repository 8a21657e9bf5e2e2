"""Continued runs: after a kill, with damaged checkpoints, and with those of other runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import ase.io
import mace  # noqa: F401  (before e3nn)
import pytest
import torch

from les.backends import TrainingJob, get_backend
from les_mace import load_model
from les_mace.restart import LOSS

RESUME = "--restart_latest"


def epochs_of(folder, name="small"):
    """Epochs in upstream's record of a run."""
    lines = (folder / "results" / f"{name}_run-3_train.txt").read_text().splitlines()
    return [record["epoch"] for record in map(json.loads, lines) if record["mode"] == "opt"]


def checkpoint(folder, epoch, stage=""):
    return folder / "checkpoints" / f"small_run-3_epoch-{epoch}{stage}.pt"


@pytest.fixture
def interrupted(les_command, monkeypatch):
    """A function that trains until a file is about to be replaced; then the run is stopped."""

    def run(name, *arguments):
        replace = os.replace

        def stopping(temporary, path):
            if os.path.basename(path) == name:
                raise KeyboardInterrupt
            replace(temporary, path)

        with monkeypatch.context() as patch:
            patch.setattr("les.files.os.replace", stopping)
            assert les_command("train", "mace", *arguments) == 130

    return run


@pytest.mark.slow
def test_resume_after_a_kill(train, arguments, tmp_path):
    """At any moment, also while a checkpoint is written."""
    command = [sys.executable, "-m", "les", "train", "mace", "--les"]
    with (tmp_path / "log").open("w") as log:
        options = arguments(tmp_path, max_num_epochs=1000)
        process = subprocess.Popen([*command, *options], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not any((tmp_path / "checkpoints").glob("*_epoch-*[1-9].pt")):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = epochs_of(tmp_path)
    saved = max(int(path.stem.rpartition("-")[2]) for path in tmp_path.glob("*/*_epoch-*.pt"))
    train("--les", *arguments(tmp_path, max_num_epochs=saved + 2), RESUME)
    added = epochs_of(tmp_path)[len(before) :]
    assert sorted(set(added)) == [saved, saved + 1]  # upstream repeats the last
    assert (tmp_path / "small.pt").is_file()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_stopped_while_saving(flag, interrupted, train, arguments, tmp_path):
    options = [flag, *arguments(tmp_path, max_num_epochs=3), "--ema", "--amsgrad"]
    interrupted(checkpoint(tmp_path, 1).name, *options)
    assert checkpoint(tmp_path, 0).is_file()
    before = len(epochs_of(tmp_path))
    train(*options, "--resume")
    assert sorted(set(epochs_of(tmp_path)[before:])) == [0, 1, 2]
    # Plain values, whatever they are read with.
    content = torch.load(checkpoint(tmp_path, 2), weights_only=True)
    assert set(content) == {"model", "optimizer", "lr_scheduler", LOSS}


def test_the_best_epoch_stays(train, arguments, tmp_path):
    """Upstream takes the first epoch after a restart for the best."""
    train("--les", *arguments(tmp_path, max_num_epochs=2))
    (best,) = tmp_path.glob("checkpoints/*_epoch-*.pt")
    content = torch.load(best, weights_only=True)
    assert 0.0 < content[LOSS] < float("inf")
    torch.save({**content, LOSS: 0.0}, best)  # as if it was better than what follows
    train("--les", *arguments(tmp_path, max_num_epochs=4), "--resume")
    assert list(tmp_path.glob("checkpoints/*_epoch-*.pt")) == [best]
    assert max(epochs_of(tmp_path)) == 3
    weights = load_model(tmp_path / "small.pt").state_dict()
    for name, value in content["model"].items():
        torch.testing.assert_close(weights[name], value, rtol=0.0, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 3])
def test_second_stage(epoch, interrupted, train, arguments, tmp_path, caplog):
    """Stopped before it and in it; its model is the result."""
    caplog.set_level("INFO")
    options = ["--les", *arguments(tmp_path, max_num_epochs=4, start_swa=2), "--ema"]
    interrupted(checkpoint(tmp_path, epoch, "_swa" * (epoch >= 2)).name, *options)
    assert checkpoint(tmp_path, epoch - 1, "_swa" * (epoch > 2)).is_file()
    before = len(epochs_of(tmp_path))
    caplog.clear()
    train(*options, RESUME)
    assert sorted(set(epochs_of(tmp_path)[before:])) == list(range(epoch - 1, 4))
    assert caplog.text.count("Changing loss based on Stage Two Weights") == 1
    first, last = (
        load_model(tmp_path / name).state_dict() for name in ("small_stageone.pt", "small.pt")
    )
    pickled = load_model(tmp_path / "small_stagetwo.model", allow_pickle=True).state_dict()
    weight = "les_readouts.0.linear.weight"
    torch.testing.assert_close(last[weight], pickled[weight], rtol=0.0, atol=0.0)
    assert not torch.equal(first[weight], last[weight])
    assert f"best model: {tmp_path / 'small.pt'}\n" in caplog.text
    job = TrainingJob("small", tmp_path, tmp_path, tmp_path, tmp_path, seed=3)
    backend = get_backend("mace")
    assert backend.trained_model(job) == tmp_path / "small.pt"
    history = backend.history(job)
    assert [record.epoch for record in history] == [0, 1, 2, 3]
    assert all(record.valid_charge_rms > 0.0 for record in history)


@pytest.fixture
def run(train, arguments, tmp_path):
    """Arguments of a run of two epochs that has kept both checkpoints."""
    train("--les", *arguments(tmp_path), "--keep_checkpoints")
    return [*arguments(tmp_path, max_num_epochs=3), "--keep_checkpoints"]


def test_the_last_whole_checkpoint(run, train, caplog, tmp_path):
    path = checkpoint(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:3000])
    before = len(epochs_of(tmp_path))
    train("--les", *run, RESUME)
    assert sorted(set(epochs_of(tmp_path)[before:])) == [0, 1, 2]
    assert re.search("epoch-1.pt is truncated or damaged.*looking for an earlier", caplog.text)


def test_checkpoints_that_cannot_be_continued(run, refused, tmp_path):
    whole = checkpoint(tmp_path, 1).read_bytes()
    checkpoint(tmp_path, 0).unlink()
    epochs = epochs_of(tmp_path)

    checkpoint(tmp_path, 1).write_bytes(whole[:3000])
    error = refused([*run, RESUME])
    assert re.search("cannot be continued: .*epoch-1.pt is truncated or damaged", error), error

    torch.save({"model": torch.nn.Linear(1, 1)}, checkpoint(tmp_path, 1))
    error = refused([*run, RESUME])
    assert re.search("epoch-1.pt is a pickle.*--allow-pickle", error), error
    error = refused([*run, RESUME, "--allow-pickle"])
    assert re.search("epoch-1.pt is no MACE checkpoint: it lacks 'optimizer'", error), error

    checkpoint(tmp_path, 1).write_bytes(whole)
    settings = tmp_path / "checkpoints" / "small_run-3_settings.json"
    kept = settings.read_bytes()
    settings.unlink()  # as with a run of mace_run_train
    error = refused([*run, RESUME, "--num_channels=4"])
    assert re.search("epoch-1.pt is of a run with another model.*size mismatch", error), error
    settings.write_bytes(kept[:20])
    assert "settings.json is damaged" in refused([*run, RESUME])
    settings.write_bytes(kept)

    error = refused(run)  # not continued: upstream would take the later of old and new epochs
    assert re.search("epoch-1.pt is there already: continue that run with --resume", error), error

    checkpoint(tmp_path, 1).unlink()
    error = refused([*run, RESUME])
    assert re.search("knows 2 epochs of this run, but .*checkpoints has no checkpoint", error)
    assert epochs_of(tmp_path) == epochs


def test_other_settings_and_data_are_refused(run, refused, train, data_files, tmp_path):
    """In both spellings; data that were only written anew, and a longer run, are none."""
    record = epochs_of(tmp_path)
    changed = tmp_path / "changed.xyz"
    frames = ase.io.read(data_files[0], ":")
    for atoms in frames:
        atoms.info["REF_energy"] += 3.0
    ase.io.write(changed, frames)
    for resume in ("--resume", RESUME):
        error = refused([*run, resume, f"--train_file={changed}"])
        assert re.search("settings.json is of a run with other contents of `train_file`", error)
        error = refused([*run, resume, "--les_arguments={sigma: 3.0}"])
        assert re.search(
            "`les_arguments` = {'cutoff': 'smooth', 'neutrality': 'shift'}, this one has .*3.0",
            error,
        )
    assert "`les` = True" in refused([*run, RESUME], "--no-les")
    assert "`forces_weight`" in refused([*run, RESUME, "--forces_weight=7"])
    assert epochs_of(tmp_path) == record
    copy = tmp_path / "copy.xyz"
    copy.write_bytes(data_files[0].read_bytes())
    train("--les", *run, RESUME, f"--train_file={copy}", "--log_level=WARNING")
    assert max(epochs_of(tmp_path)) == 2


def test_a_full_disk_is_told_with_the_file(les_command, arguments, capsys, monkeypatch, tmp_path):
    def full(content, path, *args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr("les_mace.restart._save", full)
    assert les_command("train", "mace", "--les", *arguments(tmp_path)) == 1
    assert "small_run-3_epoch-0.pt could not be written completely" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.part"))
