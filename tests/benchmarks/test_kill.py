"""A suite that is killed, with real processes and a backend that trains nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from les.testing.processes import ended, wait_until
from les_bench.suite import results
from les_bench.suite.results import read_result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]

RUN = "dipeptides-custom-tiny-sr-seed1"
EPOCHS = 150

#: A backend whose epochs take a while, with a process beside it as data loaders are.
MODULE = """
import os, subprocess, sys, time
from pathlib import Path
from ase.calculators.lj import LennardJones
from les.backends import EpochRecord
from les.training.arguments import TrainingParser, parse
from les.training.backend import TrainingBackend
from les.training.history import read_history, write_history

class TinyBackend(TrainingBackend):
    name, package, suffix = "tiny", "tiny_backend", ".tiny"
    distribution, symbol = "numpy", "numpy:ndarray"

    def configs(self):
        return {"dipeptides": Path(__file__).with_suffix(".yaml")}

    def train(self, arguments, *, les):
        help = dict.fromkeys(("from", "model", "epochs", "device"), "")
        defaults = {"epochs": 5, "batch_size": 1, "learning_rate": 1.0, "device": "cpu"}
        parser = TrainingParser(
            "tiny", "Nothing.", les=les, labels=(), help=help, defaults=defaults
        )
        options = parse(parser, arguments)
        files = self.files(options.work_dir, options.name)
        with files.claim(options.resume) as continued:
            records = read_history(files.history) if continued else []
            loader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
            with (files.folder / "pids").open("a") as file:
                print(os.getpid(), loader.pid, file=file)
            while len(records) < options.epochs:
                start = time.perf_counter()
                time.sleep(float(os.environ["TINY_SECONDS"]))
                seconds = time.perf_counter() - start
                records.append(EpochRecord(len(records), seconds, valid_loss=1.0))
                write_history(records, files.history)
                files.checkpoint.touch()
            files.model.touch()
            loader.kill()

    def calculator(self, model, **options):
        return LennardJones()
"""


@pytest.fixture
def bench(data: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``les bench run`` with the backend "tiny", which is found as an installed one is."""
    site = tmp_path / "site"
    (site / "tiny-1.0.dist-info").mkdir(parents=True)
    (site / "tiny-1.0.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.0\n")
    entry = "[les.backends]\ntiny = tiny_backend:TinyBackend\n"
    (site / "tiny-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (site / "tiny_backend.py").write_text(MODULE)
    (site / "tiny_backend.yaml").write_text("batch_size: 2\n")
    command = [sys.executable, "-m", "les", "bench", "run", "--system", "dipeptides"]
    command += ["--model", "tiny", "--variant", "sr", "--epochs", str(EPOCHS)]
    command += ["--data", str(data), "--output", str(tmp_path / "out")]
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]

    def start(seconds: float) -> subprocess.Popen[str]:
        environment = {**os.environ, "TINY_SECONDS": str(seconds)}
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return start


def test_a_killed_suite_goes_on_where_it_was(bench, tmp_path: Path) -> None:
    folder = tmp_path / "out" / RUN
    first = bench(2.0)
    wait_until(lambda: (folder / "dipeptides_history.json").exists())
    pids = [int(text) for text in (folder / "pids").read_text().split()]
    assert not any(map(ended, pids))

    # Nobody else gets in.
    _, said = (other := bench(0.0)).communicate()
    assert other.returncode == 1
    assert f"{tmp_path / 'out'} is in use by process {first.pid} on" in said
    assert ": les bench run --system dipeptides" in said
    assert not any(map(ended, pids))

    first.kill()
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    wait_until(lambda: all(map(ended, pids)))
    done = (folder / "dipeptides_history.json").read_text().count("epoch")
    assert 0 < done < EPOCHS

    _, said = (again := bench(0.0)).communicate()
    assert again.returncode == 0, said
    result = read_result(folder / results.RESULT)
    assert result["timing"]["attempts"] == 2
    assert result["warnings"] == []
    assert [record["epoch"] for record in result["history"]] == list(range(EPOCHS))
    assert all(record["seconds"] >= 2.0 for record in result["history"][:done])
    assert all(record["seconds"] < 2.0 for record in result["history"][done + 1 :])
    assert len((folder / "pids").read_text().splitlines()) == 2
    assert not list((tmp_path / "out").rglob("*.lock"))
