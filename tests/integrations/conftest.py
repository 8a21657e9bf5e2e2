"""What the tests of all adapters share; a folder has those of one adapter and its upstream."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import read, write

from les.backends import TrainingJob, get_backend
from les.cli import main
from les.sums.function import _Second
from les.sums.plan import engine_for
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer, liquid
from les_bench.systems.datasets import load
from les_bench.systems.systems import get_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from les.backends import Backend

#: Modules that the tests in a folder need; without them, they are left out.
UPSTREAMS = {
    "cace": ["matscipy"],
    "chgnet": ["chgnet"],
    "mace": ["mace"],
    "nequip": ["nequip", "allegro"],
}
collect_ignore_glob = [
    f"{folder}/*" for folder, modules in UPSTREAMS.items() if not all(map(find_spec, modules))
]


@contextlib.contextmanager
def undo() -> Iterator[None]:
    """Undo what upstream's training changes in this process: logging, precision."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@pytest.fixture
def only_second_derivatives(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where the sum is differentiated a third time: kernels have two derivatives.

    Training on forces needs second ones. With third ones, which torch makes of operations of its
    own, a step takes several times as long. Where there are kernels, a test that never takes their
    second derivatives on the CPU in double precision fails, too: it would show nothing.
    """
    forward, calls = _Second.forward, []

    def count(*arguments: Any) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        return forward(*arguments)

    def refuse(*_: Any) -> None:
        raise AssertionError("training on forces differentiates the sum a third time")

    monkeypatch.setattr(_Second, "forward", staticmethod(count))
    monkeypatch.setattr(_Second, "backward", staticmethod(refuse))
    yield
    if engine_for(torch.device("cpu"), torch.float64).compiled:
        assert calls, "the second derivatives of the kernels were never taken"


@pytest.fixture(scope="session")
def undone() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A function for a context that undoes what upstream changes in this process."""
    return undo


@pytest.fixture(scope="session")
def les_command() -> Callable[..., int]:
    """A function that runs the command ``les`` in this process, and returns its status."""

    def run(*arguments: Any) -> int:
        with undo():
            torch.set_num_threads(1)
            return main([str(argument) for argument in arguments])

    return run


def labelled(n_frames: int, seed: int) -> list[Atoms]:
    """Open and periodic structures in turn, with Lennard-Jones labels."""
    frames = []
    for index in range(n_frames):
        atoms = dimer() if index % 2 == 0 else crystal("cubic")
        atoms.rattle(0.05, seed=seed + index)
        atoms.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=4.0, smooth=True)
        atoms.info["REF_energy"] = atoms.get_potential_energy() - 8.0
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    return frames


@pytest.fixture(scope="session")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation file with 12 and 4 frames."""
    folder = tmp_path_factory.mktemp("data")
    for name, frames in (("train", labelled(12, 0)), ("valid", labelled(4, 100))):
        write(folder / f"{name}.xyz", frames, format="extxyz")
    return folder / "train.xyz", folder / "valid.xyz"


# --- `les train`, where an adapter's tests say with which backend and options


@pytest.fixture(scope="module")
def backend_name(request: pytest.FixtureRequest) -> str:
    """The backend that is trained: that of the folder, unless its tests say otherwise."""
    return request.path.parent.name


@pytest.fixture(scope="module")
def arguments(
    small_options: dict[str, Any], data_files: tuple[Path, Path]
) -> Callable[..., list[str]]:
    """A function that makes arguments for a folder; ``None`` leaves one out."""

    def make(folder: Path, **changes: Any) -> list[str]:
        train_file, valid_file = data_files
        files = {"work_dir": folder, "train_file": train_file, "valid_file": valid_file}
        settings = {**small_options, **files, **changes}
        return [f"--{key}={value}" for key, value in settings.items() if value is not None]

    return make


@pytest.fixture(scope="module")
def train(les_command: Callable[..., int], backend_name: str) -> Callable[..., None]:
    """A function that runs ``les train BACKEND ...``, which must succeed."""

    def run(*arguments: str) -> None:
        assert les_command("train", backend_name, *arguments) == 0

    return run


@pytest.fixture
def refused(
    les_command: Callable[..., int], backend_name: str, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs ``les train BACKEND ...``, which must fail; its message."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert les_command("train", backend_name, *arguments) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return next(line for line in error.splitlines() if line.startswith("les: error: "))

    return run


@pytest.fixture
def usage_error(
    les_command: Callable[..., int], backend_name: str, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs ``les train BACKEND ...`` with wrong options; its message, one line."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            les_command("train", backend_name, *arguments)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return run


@pytest.fixture
def damaged_checkpoints_are_refused(refused: Callable[..., str]) -> Callable[..., None]:
    """A function that damages the checkpoint of a run in several ways, and tries to continue it.

    Args:
        checkpoint: the file.
        options: of the run.
    """

    def check(checkpoint: Path, *options: str) -> None:
        whole = checkpoint.read_bytes()
        content = torch.load(checkpoint, weights_only=True)
        middle = slice(len(whole) // 2, len(whole) // 2 + 1000)  # more than what is between parts
        changed = bytearray(whole)
        changed[middle] = bytes(255 - byte for byte in whole[middle])
        for damaged in (b"", whole[:1000], whole[: len(whole) // 2], whole[:-1], bytes(changed)):
            checkpoint.write_bytes(damaged)
            message = refused(*options, "--resume")
            assert str(checkpoint) in message
            assert "pickle" not in message
        for part in content:
            torch.save({key: x for key, x in content.items() if key != part}, checkpoint)
            message = refused(*options, "--resume")
            assert str(checkpoint) in message
            assert f"it lacks {part!r}" in message
        for part in ("optimizer", "random_state", "history"):
            torch.save({**content, part: {"something": "else"}}, checkpoint)
            message = refused(*options, "--resume")
            assert f"{checkpoint} does not hold the state of such a training" in message
        checkpoint.unlink()
        message = refused(*options, "--resume")
        assert f"but no checkpoint {checkpoint} to continue from" in message
        checkpoint.write_bytes(whole)

    return check


@pytest.fixture
def killed(les_command: Callable[..., int], backend_name: str) -> Callable[..., int]:
    """A function that trains until ``file`` is nearly written for the ``n``-th time."""

    def run(file: str, n: int, *arguments: str) -> int:
        replace, written = os.replace, []

        def counting(temporary: str | Path, path: str | Path) -> None:
            written.append(os.path.basename(path))
            if written.count(file) == n:
                raise KeyboardInterrupt
            replace(temporary, path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("les.files.os.replace", counting)
            return les_command("train", backend_name, *arguments)

    return run


@pytest.fixture(scope="session")
def check_closing() -> Callable[..., None]:
    """A function that compares what a training has logged at its end with the model it left.

    Args:
        log: all that was logged.
        backend: whose model it is.
        model: the model file.
        sets: the files of labelled frames, by the names of their rows in the table.
    """

    def check(log: str, backend: Backend, model: Path, sets: dict[str, Path]) -> None:
        assert f"best model: {model}\n" in log
        assert f"les predict {model} structures.xyz\n" in log
        assert f"from {backend.package} import LESCalculator" in log
        assert f"LESCalculator({str(model)!r})\n" in log
        *_, head = (line for line in log.splitlines() if "MAE / RMSE" in line)
        heads = [cell.split(" MAE")[0].strip() for cell in head.split("|")[1:]]
        assert heads[:2] == ["energy", "forces"]
        calculator = backend.calculator(model)
        for name, path in sets.items():
            errors: list[list[Any]] = [[], []]
            for frame in read(path, ":"):
                results = results_of(calculator, frame)
                errors[0].append([(results["energy"] - frame.info["REF_energy"]) / len(frame)])
                errors[1].append((results["forces"] - frame.arrays["REF_forces"]).ravel())
            *_, row = (line for line in log.splitlines() if line.startswith(f"{name} "))
            for cell, values in zip(row.split("|")[1:], errors):
                all_values = np.concatenate(values)
                expected = [np.abs(all_values).mean(), np.sqrt(np.mean(all_values**2))]
                written = [float(text) for text in cell.split("/")]
                np.testing.assert_allclose(written, 1000.0 * np.array(expected), rtol=6e-3)

    return check


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A file of a molecule and a crystal."""
    path = tmp_path / "structures.xyz"
    write(path, [dimer(), crystal()], format="extxyz")
    return path


@pytest.fixture(name="liquid")
def _liquid() -> Atoms:
    """Atoms to be divided among ranks."""
    return liquid()


@pytest.fixture(scope="session")
def run_program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs Python with the given arguments in a process of its own."""

    def run(*arguments: str, check: bool = True, **options: Any) -> Any:
        result = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **options,
        )
        if check and result.returncode != 0:
            pytest.fail(f"{arguments} ended with {result.returncode}:\n{result.stderr[-4000:]}")
        return result

    return run


@pytest.fixture(scope="session")
def check_predictions() -> Callable[..., None]:
    """A function that compares the output of ``les predict --bec`` with a calculator's.

    Predictions are of batches, and round in another order: in float32 that is seen.
    """

    def check(path: Path, structures: list[Atoms], calculator: Any, rounding: float = 1e-7) -> None:
        for written, structure in zip(read(path, ":"), structures, strict=True):
            results = results_of(calculator, structure)
            for key in ("energy", "les_energy", "dipole"):
                np.testing.assert_allclose(written.info[f"LES_{key}"], results[key], atol=rounding)
            for key in ("forces", "energies", "charges", "born_effective_charges"):
                found = written.arrays[f"LES_{key}"]
                np.testing.assert_allclose(found, results[key], atol=rounding)
            assert ("LES_stress" in written.info) == structure.pbc.all()

    return check


# --- short training on the benchmark systems


@dataclass(frozen=True)
class Budget:
    """What to train on and for how long, and what must come out."""

    n_train: int
    n_test: int  # at most, of the validation set
    epochs: int
    #: Largest standard deviation of the energy error per atom on the test frames
    #: [meV/atom]; its mean is what a short training gets right last.
    energy: float
    #: Largest RMSE of the forces there [meV/A].
    forces: float
    #: The force error is below that of no forces at least by this factor.
    factor: float


def spread(frames: list[Atoms], n: int) -> list[Atoms]:
    """At most ``n`` of ``frames``, evenly spread, with the labels that are trained on."""
    chosen = []
    for index in np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int):
        whole = frames[index]
        frame = Atoms(whole.numbers, whole.positions, cell=whole.cell, pbc=whole.pbc)
        frame.info["REF_energy"] = whole.info["REF_energy"]
        frame.arrays["REF_forces"] = whole.arrays["REF_forces"]
        chosen.append(frame)
    return chosen


def root_mean_square(values: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(values)))))


@pytest.fixture
def short_training(
    les_command: Callable[..., int], tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., None]:
    """A function that trains on a few frames of a benchmark system, and checks the errors.

    ``make_small(config)`` changes the shipped configuration; the last arguments are those of
    ``Budget``. Its bounds are the values found when they were written, plus a quarter or a third:
    errors of a training fall, and stay where they were. How good models get with a real budget is
    what ``les bench`` is for.
    """

    def run(
        backend: Backend,
        name: str,
        source: str,
        make_small: Callable[[dict[str, Any]], None],
        *numbers: float,
    ) -> None:
        budget = Budget(*numbers)
        system = get_system(name)
        folder = "embedded" if source == "embedded" else request.getfixturevalue("data_dir")
        dataset = load(system, str(folder))
        test = spread(dataset.valid, budget.n_test)
        write(tmp_path / "train.xyz", spread(dataset.train, budget.n_train), format="extxyz")
        write(tmp_path / "test.xyz", test, format="extxyz")
        config = yaml.safe_load(backend.configs()[system.config].read_text())
        make_small(config)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        job = TrainingJob(
            name,
            tmp_path / "run",
            tmp_path / "config.yaml",
            tmp_path / "train.xyz",
            tmp_path / "test.xyz",
            epochs=budget.epochs,
        )
        job.directory.mkdir()
        assert les_command("train", backend.name, "--les", *backend.training_arguments(job)) == 0

        calculator = backend.calculator(backend.trained_model(job), allow_pickle=True)
        energy_errors, force_errors, references = [], [], []
        for frame in test:
            results = results_of(calculator, frame)
            reference = frame.arrays["REF_forces"]
            energy_errors.append((results["energy"] - frame.info["REF_energy"]) / len(frame))
            force_errors.append((results["forces"] - reference).ravel())
            references.append(reference.ravel())
            assert 1e-4 < np.abs(results["charges"]).max() < 5.0
        forces = 1e3 * root_mean_square(force_errors)
        assert 1e3 * float(np.std(energy_errors)) < budget.energy
        assert forces < budget.forces
        assert 1e3 * root_mean_square(references) > budget.factor * forces

    return run


# --- models that were trained before


@pytest.fixture
def check_checkpoint(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that compares a model in the folder ``data`` of an adapter with its predictions.

    Both were written by ``python benchmarks/generate checkpoints``, maybe by another release.

    Args:
        model: name of the backend that was trained.
        system: what it was trained on.
    """

    def check(model: str, system: str) -> None:
        folder = request.path.parent / "data"
        (path,) = (x for x in folder.glob(f"{model}_{system}.*") if x.suffix != ".npz")
        torch.load(path, weights_only=True)  # plain values
        calculator = get_backend(model).calculator(path)
        with np.load(folder / f"{model}_{system}.npz") as kept:
            for index in ("0", "1"):
                atoms = Atoms(
                    **{x: kept[f"{index}.{x}"] for x in ("numbers", "positions", "cell", "pbc")}
                )
                results = results_of(calculator, atoms)
                assert np.abs(results["charges"]).max() > 0.01
                for key in ("energy", "forces", "charges"):
                    expected = kept[f"{index}.{key}"]
                    np.testing.assert_allclose(results[key], expected, rtol=0.0, atol=1e-5)

    return check


# --- the benchmark suite


@pytest.fixture(scope="session")
def few_dipeptides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few of the embedded dipeptides, for testing with Born effective charges."""
    folder = tmp_path_factory.mktemp("few")
    dataset = load(get_system("dipeptides"), "embedded")
    for split in ("train", "valid", "test"):
        frames = getattr(dataset, split)
        few = frames[:: max(1, len(frames) // 6)]
        if split == "test":
            few = [frame for frame in frames if "REF_bec" in frame.arrays][:2]
        name = {"valid": "val"}.get(split, split)
        write(folder / f"dipeptides_{name}.xyz", few, format="extxyz")
    return folder


@pytest.fixture
def check_benchmark(les_command: Callable[..., int], tmp_path: Path) -> Callable[..., None]:
    """A function that compares a model with and without LES, and reads what that leaves.

    Ions whose charges are known, drawn apart beyond what was trained on: a few epochs tell the two
    apart, and LES-minus-short-range keeps its sign. ``ending`` is that of the model files;
    ``extra`` arguments go to the training command.
    """

    def check(model: str, ending: str, epochs: int, *extra: str) -> None:
        output = tmp_path / "results"
        run = ["bench", "run", "--system", "salt", "--model", model, "--epochs", epochs]
        run += ["--fraction", 0.3, "--threads", 1, "--output", output, "--", *extra]
        assert les_command(*run) == 0
        results = {
            path.parent.name.split("-")[-2]: json.loads(path.read_text())
            for path in output.glob("*/result.json")
        }
        assert set(results) == {"sr", "les"}
        for result in results.values():
            assert [record["epoch"] for record in result["history"]] == list(range(epochs))
            assert result["history"][0]["seconds"] > 0.0
            assert result["metrics"]["test"]["n_structures"] > 20
            checks = result["consistency"]  # meV/A
            assert checks.keys() == {"rotation", "translation", "permutation", "force", "huge_box"}
            # A periodic sum has no waves shorter than `dl`, which ions of 1 e feel by 10 meV/A.
            bound = {"huge_box": 30.0} if "charges" in result["metrics"]["test"] else {}
            assert all(x < bound.get(name, 0.1) for name, x in checks.items()), checks
        assert results["les"]["n_parameters"] > results["sr"]["n_parameters"]
        measured = {variant: result["metrics"]["test"] for variant, result in results.items()}
        assert set(measured["les"]) - set(measured["sr"]) >= {"bec", "charges", "dipole"}
        assert measured["les"]["force_rmse"] < 0.9 * measured["sr"]["force_rmse"]
        assert measured["les"]["charges"]["r2_scaled"] > 0.9
        before = {path: path.stat().st_mtime_ns for path in output.rglob(f"*{ending}")}
        assert before
        assert les_command(*run) == 0  # all is done already
        assert before == {path: path.stat().st_mtime_ns for path in output.rglob(f"*{ending}")}
        assert les_command("bench", "report", output) == 0
        assert model in (output / "report.md").read_text()
        assert "data:image/png;base64," in (output / "report.html").read_text()

    return check
