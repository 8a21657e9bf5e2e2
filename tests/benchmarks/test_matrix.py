"""Suites across environments, with real processes and backends that train nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from les.backends import BackendError
from les.testing.processes import ended, wait_until
from les_bench.suite import environments, results
from les_bench.suite.cell import Cell, Settings, _refusal
from les_bench.suite.environments import environment_names, interpreter, parse_interpreters
from les_bench.suite.forecast import Forecast
from les_bench.suite.matrix import RECORD, Matrix, summary
from les_bench.suite.results import read_result
from les_bench.suite.suites import SuiteError

#: Three backends of one adapter: one that works, one whose training fails, one that is not there.
MODULE = """
import json, os, sys, time
from pathlib import Path
from ase.calculators.lj import LennardJones
from les.backends import Backend, EpochRecord

class TinyBackend(Backend):
    name, package, symbol = "tiny", "les_tiny", "numpy:ndarray"
    distribution = "numpy"

    def configs(self):
        return {"dipeptides": Path(__file__).with_name("tiny.yaml")}

    def train(self, arguments, *, les):
        seed, epochs = map(int, arguments[:2])
        with open("pids", "a") as file:
            print(os.getpid(), file=file)
        done = json.loads(Path("epochs").read_text()) if Path("epochs").exists() else []
        while len(done) < epochs:
            done.append(len(done))
            Path("epochs").write_text(json.dumps(done))
            time.sleep(float(os.environ.get("TINY_SECONDS", "0")))
        Path("model").write_text(str(les))

    def calculator(self, model, *, bec=False, **options):
        return Calculator(Path(model).read_text() == "True")

    def training_arguments(self, job):
        return [str(job.seed), str(job.epochs)]

    def trained_model(self, job):
        if not (job.directory / "model").exists():
            raise FileNotFoundError(job.directory / "model")
        return job.directory / "model"

    def history(self, job):
        done = json.loads((job.directory / "epochs").read_text())
        return [EpochRecord(n, 1.0, valid_force_rmse=0.5 / (n + 1)) for n in done]

class BrokenBackend(TinyBackend):
    name = "broken"

    def train(self, arguments, *, les):
        if les:
            sys.exit("ran out of luck")
        super().train(arguments, les=les)

class AbsentBackend(TinyBackend):
    name, symbol, distribution = "absent", "no_such_upstream:thing", "no-such-upstream"

class KilledBackend(TinyBackend):
    name = "killed"

    def history(self, job):
        os._exit(9)

class Calculator(LennardJones):
    def __init__(self, les):
        super().__init__(sigma=2.0, epsilon=0.9, rc=8.0)
        self.les = les

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        if self.les:
            self.results.update(les_energy=0.0, charges=0.0 * atoms.numbers)
"""
BACKENDS = ("tiny", "broken", "absent", "killed")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder with the environment of the adapter "tiny"; the adapter is installed in it."""
    site = tmp_path / "site"
    (site / "tiny-1.0.dist-info").mkdir(parents=True)
    (site / "tiny-1.0.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.0\n")
    entries = "".join(f"{name} = les_tiny:{name.title()}Backend\n" for name in BACKENDS)
    (site / "tiny-1.0.dist-info" / "entry_points.txt").write_text(f"[les.backends]\n{entries}")
    (site / "les_tiny.py").write_text(MODULE)
    (site / "tiny.yaml").write_text("batch_size: 2\n")
    program = tmp_path / "environments" / "tiny" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(
        dedent(f"""\
        #!/bin/sh
        echo "$@" >> {tmp_path}/started
        exec {sys.executable} "$@"
        """)
    )
    program.chmod(0o755)
    return program.parents[2]


@pytest.fixture
def bench(
    data: Path, tmp_path: Path, environment: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``les bench run`` on all seeds and variants of some models."""
    (tmp_path / "suite.yaml").write_text(
        "mine: {parts: [{systems: [dipeptides], models: [tiny, broken, absent, killed], "
        "epochs: {default: 4, tiny: 5}}]}\n"
    )
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]

    def start(*options: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "les", "bench", "run", "--threads", "1"]
        command += ["--suite", str(tmp_path / "suite.yaml"), "--data", str(data)]
        command += ["--environments", str(environment), "--output", str(tmp_path / "out")]
        process = subprocess.Popen(
            [*command, *options],
            env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def name(model: str, variant: str = "les", seed: int = 1) -> str:
    return f"dipeptides-custom-{model}-{variant}-seed{seed}"


def record(out: Path) -> dict[str, dict]:
    return json.loads((out / RECORD).read_text())["cells"]


@pytest.mark.slow
def test_what_fails_is_recorded_and_the_rest_goes_on(bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--variant", "les", "--model")
    said, errors = (first := bench("--jobs", "2", *options, "tiny,broken,absent")).communicate()
    assert first.returncode == 1
    assert "1 done, 1 failed, 1 not installed" in said, errors
    assert "failed: dipeptides-custom-broken-les-seed1: training ended with status 1" in said
    assert "not installed: dipeptides-custom-absent-les-seed1: backend 'absent': no-such" in said
    found = record(out)
    assert len(found) == 3
    assert found[name("tiny")]["status"] == "done"
    result = read_result(out / name("tiny") / "result.json")
    assert len(result["history"]) == 5
    assert result["machine"]["jobs"] == 2
    assert found[name("absent")]["status"] == "not installed"
    assert "no-such-upstream is not installed" in found[name("absent")]["error"]
    assert found[name("broken")]["status"] == "failed"
    assert "ran out of luck" in found[name("broken")]["error"]
    assert "Traceback" not in errors

    # Again: only what is not done is tried once more, and what is done stays as it is.
    before = (out / name("tiny") / "result.json").stat().st_mtime_ns
    started = tmp_path / "started"
    started.unlink()
    said, errors = bench(*options, "tiny").communicate()
    assert "1 done" in said, errors
    assert (out / name("tiny") / "result.json").stat().st_mtime_ns == before
    assert len(started.read_text().splitlines()) == 1  # it asked what is done
    assert len(record(out)) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_suite_goes_on(bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--model", "tiny", "--variant", "sr", "--epochs", "500")
    first = bench(*options, TINY_SECONDS="1")
    folder = out / name("tiny", "sr")
    # Three processes start one another, which takes its time on a busy machine.
    wait_until(lambda: (folder / "pids").exists() and (folder / "epochs").exists(), 240)
    pid = int((folder / "pids").read_text())

    _, said = (other := bench(*options)).communicate()
    assert other.returncode == 1
    assert f"{out} is in use by process {first.pid} on" in said

    first.kill()
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    wait_until(lambda: ended(pid))
    done = len(json.loads((folder / "epochs").read_text()))
    assert 0 < done < 500

    said, errors = (again := bench(*options)).communicate()
    assert again.returncode == 0, errors
    assert "1 done" in said
    assert read_result(folder / results.RESULT)["timing"]["attempts"] == 2
    assert not list(out.rglob("*.lock"))


@pytest.mark.slow
def test_a_process_that_ends_without_a_word(bench, tmp_path: Path) -> None:
    options = ("--model", "killed", "--variant", "sr")
    said, errors = (first := bench(*options)).communicate()
    assert first.returncode == 1, errors
    assert "1 failed" in said
    assert "the process ended with status 9" in said


@pytest.mark.parametrize("data_are_there", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 4}, r"epochs 3 and options \[\], the other with epochs 4 and options \[\]"),
        ({"options": ("--r_max=6.0",)}, r"the other with epochs 3 and options \['--r_max=6.0'\]"),
        ({"epochs": None}, "the other with epochs the configuration's and"),
    ],
)
def test_one_folder_for_two_trainings(
    change: dict, said: str, data_are_there: bool, data: Path, tmp_path: Path
) -> None:
    cell = Cell("dipeptides", "tiny", "sr", 1, epochs=3)
    source = data if data_are_there else tmp_path / "nowhere"
    matrix = Matrix(tmp_path / "out", [cell, replace(cell, **change)], Settings(data=str(source)))
    with pytest.raises(SuiteError, match=said) as raised:
        matrix.run()
    kind = "custom" if data_are_there else "none"
    assert f"the name dipeptides-{kind}-tiny-sr-seed1" in str(raised.value)
    assert not (tmp_path / "out" / RECORD).exists()


def test_trainings_without_data_keep_their_names_apart(tmp_path: Path) -> None:
    cell = Cell("dipeptides", "tiny", "sr", 1)
    cells = [cell, replace(cell, fraction=0.5), replace(cell, control="one more layer")]
    found = Matrix(tmp_path / "out", cells, Settings(data=str(tmp_path / "nowhere"))).run()
    assert [entry["status"] for entry in found.values()] == ["failed"] * 3


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError(), "ValueError"), (OSError("\n"), "OSError"), (KeyError(), "KeyError: ")],
)
def test_an_error_without_a_message(error: Exception, said: str) -> None:
    refused = _refusal(error)
    assert refused == {"status": "failed", "error": said}
    assert summary({"a": refused}) == f"1 failed\nfailed: a: {said}"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backends "here" and "absent", both of the adapter "les_shared"."""

    class Stand:
        package = "les_shared"

        def __init__(self, name: str) -> None:
            self.name = name

        def problem(self) -> str | None:
            return None if self.name == "here" else "upstream is not installed"

    monkeypatch.setattr(environments, "get_backend", Stand)


def make(folder: Path, *parts: str) -> Path:
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.usefixtures("installed")
def test_which_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert interpreter("here") == Path(sys.executable)
    with pytest.raises(BackendError, match=r"\.nox/absent and \.nox/shared, and here upstream is"):
        interpreter("absent")
    with pytest.raises(BackendError, match="no environment given/here and given/shared"):
        interpreter("here", Path("given"))
    shared = make(tmp_path, ".nox", "shared", "bin", "python")
    assert interpreter("absent") == interpreter("here") == shared
    own = make(tmp_path, ".nox", "absent", "Scripts", "python.exe")
    assert interpreter("absent") == own
    given = make(tmp_path, "given", "bin", "python")
    for path in (given, given.parents[1]):
        assert interpreter("absent", explicit={"absent": path}) == given
    with pytest.raises(BackendError, match="nowhere is no interpreter"):
        interpreter("absent", explicit={"absent": Path("nowhere")})


def test_names_of_environments() -> None:
    assert environment_names("allegro") == ["allegro", "nequip"]
    assert environment_names("mace") == ["mace"]


def test_interpreters_on_the_command_line() -> None:
    assert parse_interpreters(["mace=/x/y"]) == {"mace": Path("/x/y")}
    with pytest.raises(ValueError, match="must be MODEL=PATH, got 'mace'"):
        parse_interpreters(["mace"])


def test_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"a": 100.0, "b": 300.0}

    def read(path: Path) -> dict:
        return {"timing": {"training_wall_s": times[path.parent.name]}}

    monkeypatch.setattr(results, "read_result", read)
    cells = {name: Cell("water", name, "sr", 1) for name in "abc"}
    forecast = Forecast(jobs=2)
    assert forecast.left(cells) is None
    forecast.learn(cells["a"], tmp_path / "a")
    assert forecast.left({}) == 0.0
    assert forecast.left({"a": cells["a"], "c": cells["c"]}) == pytest.approx(100.0)
    forecast.learn(cells["b"], tmp_path / "b")
    assert forecast.left({"c": cells["c"]}) == pytest.approx(100.0)  # 200 s, two at a time
    forecast.started["b"] = 0.0
    monkeypatch.setattr("time.monotonic", lambda: 200.0)
    assert forecast.left({"b": cells["b"]}) == pytest.approx(50.0)
    half = Cell("water", "a", "sr", 1, fraction=0.5)
    assert forecast.left({"half": half}) == pytest.approx(25.0)
