"""Suites of runs: results, resuming, bad and foreign files, failures."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from les.backends import EpochRecord
from les.locks import InUseError, locked
from les_bench import cli
from les_bench.report.summary import grouped
from les_bench.suite import here, results, workspace
from les_bench.suite.cell import Settings
from les_bench.suite.here import run_here
from les_bench.suite.suites import SuiteError, suite_of

LES = "dipeptides-custom-fake-les-seed1"
SR = "dipeptides-custom-fake-sr-seed1"

pytestmark = pytest.mark.usefixtures("fake_backend")


@pytest.fixture
def suite(run_fake, out: Path):
    """Run a suite on the small data; keyword arguments override its settings."""

    def start(**settings) -> list[str]:
        return run_fake(settings.pop("output", out), **{"epochs": 4, **settings})

    return start


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def calls(folder: Path) -> list[str]:
    """What upstream's training was called with, call by call."""
    return (folder / "calls.txt").read_text().splitlines()


def test_result_holds_exact_metrics(suite, out: Path) -> None:
    assert suite() == []
    for folder, error in ((SR, 0.1), (LES, 0.01)):
        result = results.read_result(out / folder / "result.json")
        sets = results.read_predictions(out / folder / "predictions.npz")
        rms = 1000 * np.sqrt(np.mean(sets["test"]["forces_ref"] ** 2))
        assert result["metrics"]["test"]["force_rmse"] == pytest.approx(error * rms)
        assert result["timing"]["seconds_per_epoch"] == 1.0
        assert result["configuration"]["config_file"] == "r_max: 4.0\n"
        assert len(result["history"]) == 4
    assert result["metrics"]["valid"]["bec"]["r2"] == pytest.approx(1.0)
    assert "bec" not in result["metrics"]["test"]  # no reference there
    assert result["metrics"]["test"]["dipole"]["r2"] == pytest.approx(1.0)
    assert result["metrics"]["test"]["charge_neutrality"] < 1e-12
    assert not list(out.rglob("*.part"))


def test_frames_with_responses_only(suite, out: Path, data: Path) -> None:
    """They are evaluated with the charges, and nothing else is asked of them."""
    frames = [Atoms("OH2", np.eye(3)), Atoms("OH", np.eye(3)[:2])]
    for frame in frames:
        charges = np.where(frame.numbers == 8, -0.8, 0.4)  # as the calculator has
        charges = 2.0 * (charges - charges.mean())
        frame.arrays["bec"] = (charges[:, None, None] * np.eye(3)).reshape(-1, 9)
    write(data / "dipeptides_response.xyz", frames, format="extxyz")
    assert suite() == []
    found = results.read_result(out / LES / "result.json")
    assert found["configuration"]["n_structures"]["response"] == 2
    agreement = found["metrics"]["response"]["bec"]
    assert agreement["n_values"] == 45
    assert agreement["scale"] == pytest.approx(2.0)
    assert agreement["r2_scaled"] == pytest.approx(1.0)
    short_range = results.read_result(out / SR / "result.json")
    assert "response" not in short_range["metrics"]


def test_dielectric_constant(suite, out: Path) -> None:
    """It is given to models with LES, and makes another run."""
    assert suite(eps_inf=4.0) == []
    found = results.read_result(out / LES / "result.json")
    assert found["configuration"]["eps_inf"] == 4.0
    assert found["metrics"]["valid"]["bec"]["scale"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="`eps_inf` must be a positive number, got 0"):
        suite(eps_inf=0.0)


def test_training_files_hold_energies_and_forces_only(suite, out: Path) -> None:
    suite()
    for name in ("train.xyz", "valid.xyz"):
        text = (out / LES / name).read_text()
        assert "REF_forces" in text
        assert "REF_dipole" not in text
        assert "REF_bec" not in text


def test_variants_alternate_within_a_seed(suite, out: Path, monkeypatch) -> None:
    order = []
    monkeypatch.setattr(here, "execute", lambda run, *_: order.append((run.seed, run.variant)))
    suite(seeds=2)
    assert order == [(1, "sr"), (1, "les"), (2, "sr"), (2, "les")]


def test_finished_run_is_skipped(suite, out: Path) -> None:
    suite()
    before = (out / LES / "result.json").stat().st_mtime_ns
    suite()
    assert (out / LES / "result.json").stat().st_mtime_ns == before
    assert len(calls(out / LES)) == 1


def test_lost_result_is_made_again_without_training(suite, out: Path) -> None:
    suite()
    (out / LES / "result.json").unlink()
    suite()
    assert (out / LES / "result.json").exists()
    assert len(calls(out / LES)) == 1


def test_truncated_result_is_kept_aside_and_made_again(suite, out: Path, caplog) -> None:
    suite()
    path = out / LES / "result.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(results.ResultError, match=r"les-seed1.result\.json: not a complete"):
        results.read_result(path)
    suite()
    assert str(path) in caplog.text
    assert results.read_result(path)["name"] == LES
    assert path.with_name("result.json.bad").read_text() == whole[: len(whole) // 2]


def test_killed_training_is_trained_again_in_its_folder(suite, out: Path) -> None:
    suite()
    state = json.loads((out / LES / "job.json").read_text())
    (out / LES / "job.json").write_text(json.dumps({**state, "finished": False}))
    for name in ("result.json", "model.json"):
        (out / LES / name).unlink()
    (out / LES / "checkpoint").touch()
    suite()
    assert len(calls(out / LES)) == 2
    assert (out / LES / "checkpoint").exists()
    assert results.read_result(out / LES / "result.json")["timing"]["attempts"] == 2


@pytest.mark.parametrize("change", ["epochs", "config", "foreign"])
def test_folder_of_another_configuration_is_moved_away(
    suite, out: Path, fake_backend, caplog, change: str
) -> None:
    suite(variants=["les"])
    if change == "config":
        fake_backend.config.write_text("r_max: 5.0\n")
    if change == "foreign":
        (out / LES / "job.json").write_text("{")
    suite(variants=["les"], epochs=5 if change == "epochs" else 4)
    assert "moved to" in caplog.text
    assert (out / "superseded" / f"{LES}.1" / "result.json").exists()
    assert len(calls(out / LES)) == 1
    assert len(results.read_all(out)) == 1


def test_failed_run_shows_its_log_and_the_others_go_on(suite, out: Path, caplog) -> None:
    assert suite(extra=("--crash",)) == [SR, LES]
    assert "ran out of luck" in caplog.text
    assert str(out / SR / "train.log") in caplog.text
    assert not (out / SR / "result.json").exists()


def test_unexpected_error_does_not_stop_the_suite(suite, fake_backend, monkeypatch) -> None:
    original = fake_backend.calculator

    def calculator(self, model, **options):
        if SR in str(model):
            raise KeyError("broken")
        return original(self, model, **options)

    monkeypatch.setattr(fake_backend, "calculator", calculator)
    assert suite() == [SR]


def test_model_of_the_wrong_variant_is_refused(suite, fake_backend, monkeypatch, caplog) -> None:
    swapped = {"sr": "les", "les": "sr"}

    def calculator(self, model, **options):
        trained = json.loads(model.read_text())["variant"]
        return fake_backend.make(swapped[trained])

    monkeypatch.setattr(fake_backend, "calculator", calculator)
    assert suite() == [SR, LES]
    assert "expected a model with LES, but its results have no `les_energy`" in caplog.text
    assert "expected a model without LES, but its results have a `les_energy`" in caplog.text


def test_bad_settings_are_refused_before_any_run(suite, out: Path) -> None:
    with pytest.raises(SuiteError, match="`variant` must be one of sr, les, got 'lse'"):
        suite(variants=["lse"])
    with pytest.raises(SuiteError, match="`seeds` and `epochs` must be positive numbers, got 0"):
        suite(seeds=0)
    with pytest.raises(ValueError, match="`threads` must be at least 1, got 0"):
        suite(threads=0)
    with pytest.raises(ValueError, match="no configuration 'au2_mgo'"):
        run_here(suite_of(["au2_mgo"], ["fake"]).cells(), Settings(), out)
    assert not out.exists()


def test_hash_depends_on_every_setting() -> None:
    base = {"system": "water", "seed": 1, "extra": []}
    assert results.configuration_hash(base) == results.configuration_hash(dict(base))
    assert results.configuration_hash(base) == results.configuration_hash(
        dict(reversed(base.items()))
    )
    for change in ({"seed": 2}, {"extra": ["--x"]}, {"new": None}):
        assert results.configuration_hash({**base, **change}) != results.configuration_hash(base)


def test_command_line(data: Path, out: Path, capsys, caplog) -> None:
    arguments = ["run", "--system", "dipeptides", "--model", "fake", "--data", str(data)]
    arguments += ["--epochs", "3", "--threads", "2", "--output", str(out)]
    assert cli.main([*arguments, "--variant", "les", "--", "--lr", "0.1"]) == 0
    assert calls(out / LES) == ["les 2 --lr 0.1"]
    assert "les bench report" in capsys.readouterr().out
    assert cli.main([*arguments, "--variant", "sr,les", "--", "--crash"]) == 1
    assert f"2 run(s) failed: {SR}, {LES}" in capsys.readouterr().err
    assert cli.main(["run", "--system", "watr", "--model", "fake"]) == 1
    assert "did you mean 'water'" in caplog.text


def records(n: int, first_seconds: float) -> list[EpochRecord]:
    times = [first_seconds, *range(1, n)]
    return [EpochRecord(i, times[i], valid_loss=1.0 / (i + 1)) for i in range(n)]


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_went_on_or_began_again(
    suite, out: Path, fake_backend, monkeypatch, caplog, again: bool
) -> None:
    """Upstream may begin at epoch 0 where a checkpoint is broken, and end as if all were well."""
    before, after = records(3, 9.5), records(4, 9.75 if again else 9.5)
    trained = fake_backend.trained_model

    def history(self, job):
        try:
            trained(self, job)
        except FileNotFoundError:
            return before
        return after

    monkeypatch.setattr(fake_backend, "history", history)
    monkeypatch.setenv("FAKE_CRASH", "1")
    assert suite(variants=["les"]) == [LES]
    monkeypatch.delenv("FAKE_CRASH")
    assert suite(variants=["les"]) == []
    text = "attempt 2 to train began again at the first epoch, although 3 had been done"
    assert results.read_result(out / LES / "result.json")["warnings"] == [text] * again
    assert (f"{LES}: {text}" in caplog.text) == again
    (group,) = grouped(results.read_all(out))
    assert (f"{LES}: {text}." in group.notes()) == again


def test_progress_within_a_run(suite, fake_backend, monkeypatch) -> None:
    monkeypatch.setattr(workspace, "INTERVAL", 0.02)
    monkeypatch.setattr(fake_backend, "history", lambda self, job: records(3, 1.0))
    told = []
    monkeypatch.setattr(here.tqdm, "set_postfix_str", lambda self, text: told.append(text))
    assert suite(variants=["les"], extra=("--half-a-second",)) == []
    assert told[0] == LES
    assert told[-1] == f"{LES}: epoch 3 of 4"


def test_processor_time_where_the_system_tells_it(suite, out: Path, monkeypatch) -> None:
    suite(variants=["sr"])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(workspace, "os", SimpleNamespace(name="nt"))
        assert workspace._processor_seconds() is None
    monkeypatch.setattr(workspace, "_processor_seconds", lambda: None)
    suite(variants=["les"])
    for name, told in ((SR, os.name != "nt"), (LES, False)):
        seconds = results.read_result(out / name / "result.json")["timing"]["training_processor_s"]
        assert seconds > 0.0 if told else seconds is None


def test_two_suites_in_one_folder(suite, data: Path, out: Path, caplog) -> None:
    out.mkdir()
    with locked(out), pytest.raises(InUseError, match=f"{out} is in use by process {os.getpid()}"):
        suite()
    assert not list(out.iterdir())
    arguments = ["run", "--system", "dipeptides", "--model", "fake", "--data", str(data)]
    with locked(out):
        assert cli.main([*arguments, "--output", str(out)]) == 1
    assert "choose another place" in caplog.text


def test_a_full_disk_names_the_file(suite, out: Path, monkeypatch, caplog) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert suite(variants=["les"]) == [LES]
    assert f"{LES} failed: [Errno 28] No space left on device: '{out / LES}" in caplog.text
    assert "Traceback" not in caplog.text


def test_termination_ends_the_training_too(data: Path, out: Path) -> None:
    pid = out / LES / "pid"

    def terminate() -> None:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    arguments = ["run", "--system", "dipeptides", "--variant", "les", "--data", str(data)]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--model", "fake", "--output", str(out), "--", "--sleep"])
    assert stopped.value.code == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert json.loads((out / LES / "job.json").read_text())["finished"] is False
