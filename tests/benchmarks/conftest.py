"""A backend that trains in milliseconds, and small data sets for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import write

from les.backends import Backend, EpochRecord
from les_bench.suite import cell, here, workspace
from les_bench.suite.cell import Settings
from les_bench.suite.here import run_here
from les_bench.suite.suites import suite_of

#: Well depths [eV]: the truth, and what "training" finds. Energies and forces are
#: proportional to it, so the errors of the models are known exactly.
DEPTH = {"truth": 1.0, "sr": 0.9, "les": 0.99}

#: Stands for upstream's training program. Arguments: variant, seed, epochs, rest.
PROGRAM = """
import json, os, pathlib, sys, time
variant, seed, epochs, *rest = sys.argv[1:]
with open("calls.txt", "a") as file:
    print(variant, os.environ["OMP_NUM_THREADS"], *rest, file=file)
if "--crash" in rest or "FAKE_CRASH" in os.environ:
    sys.exit("ran out of luck")
if "--sleep" in rest:
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
if "--half-a-second" in rest:
    time.sleep(0.5)
assert "REF_energy" in pathlib.Path("train.xyz").read_text()
pathlib.Path("model.json").write_text(json.dumps({"variant": variant, "epochs": int(epochs)}))
"""


class FakeCalculator(LennardJones):
    """Lennard-Jones; with LES also charges, a dipole and Born effective charges."""

    def __init__(self, variant: str, *, bec: bool = False, eps_inf: float = 1.0) -> None:
        super().__init__(sigma=2.0, epsilon=DEPTH[variant], rc=8.0)
        self.variant, self.bec, self.scale = variant, bec, eps_inf**0.5

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if self.variant == "sr":
            return
        charges = self.scale * charges_of(atoms)
        self.results["les_energy"] = 0.0
        self.results["charges"] = charges
        self.results["dipole"] = charges @ atoms.positions
        if self.bec:
            bec = charges[:, None, None] * np.eye(3)
            self.results["born_effective_charges"] = bec.reshape(-1, 9)


class FakeBackend(Backend):
    """All that the benchmarks need from an adapter, without an upstream."""

    name = "fake"
    package = "les_fake"
    distribution = "numpy"
    symbol = "numpy:ndarray"
    config = Path("set by the fixture")
    make = FakeCalculator

    def configs(self):
        return {"dipeptides": self.config, "water": self.config}

    def train(self, arguments, *, les):
        raise NotImplementedError

    def calculator(
        self, model, *, device="cpu", dtype="float64", bec=False, allow_pickle=False, **options
    ):
        return FakeCalculator(json.loads(Path(model).read_text())["variant"], bec=bec, **options)

    def training_arguments(self, job):
        return [str(job.seed), str(job.epochs), *job.extra]

    def trained_model(self, job):
        path = job.directory / "model.json"
        if not path.exists():
            raise FileNotFoundError(path)
        return path

    def history(self, job):
        epochs = json.loads(self.trained_model(job).read_text())["epochs"]
        times = [100.0] + [1.0] * epochs  # the first epoch is slow and must not count
        return [EpochRecord(i, times[i], valid_force_rmse=0.1 / (i + 1)) for i in range(epochs)]


def charges_of(atoms: Atoms) -> np.ndarray:
    """Charges that depend on the element only and add up to zero."""
    charges = np.where(atoms.numbers == 8, -0.8, 0.4)
    return charges - charges.mean()


def molecule(rng: np.random.Generator, *, bec: bool = False) -> Atoms:
    """A labelled, bent three-atom molecule."""
    positions = np.array([[0.0, 0, 0], [2.2, 0, 0], [0, 2.3, 0]]) + rng.normal(0, 0.1, (3, 3))
    atoms = Atoms("OH2", positions)
    atoms.calc = FakeCalculator("truth")
    atoms.calc.variant = "les"
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    dipole = atoms.calc.results["dipole"]
    frame = Atoms("OH2", positions)
    frame.info.update(REF_energy=energy, REF_dipole=dipole, total_charge=0)
    frame.arrays["REF_forces"] = forces
    if bec:
        frame.arrays["REF_bec"] = (charges_of(frame)[:, None, None] * np.eye(3)).reshape(-1, 9)
    return frame


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the system "dipeptides", of three-atom molecules."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("val", 3), ("test", 4)):
        frames = [molecule(rng, bec=split == "val") for _ in range(n)]
        write(folder / f"dipeptides_{split}.xyz", frames, format="extxyz")
    return folder


@pytest.fixture
def fake_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeBackend]:
    """Let the benchmarks find the backend "fake"."""
    FakeBackend.config = tmp_path / "fake.yaml"
    FakeBackend.config.write_text("r_max: 4.0\n")
    for module in (cell, here):
        monkeypatch.setattr(module, "get_backend", lambda name: FakeBackend())
    monkeypatch.setattr(
        workspace,
        "train_command",
        lambda model, les, arguments: [
            *(sys.executable, "-c", PROGRAM, "les" if les else "sr"),
            *arguments,
        ],
    )
    return FakeBackend


@pytest.fixture
def run_fake(fake_backend, data: Path) -> Callable[..., list[str]]:
    """A function that carries out trainings of "fake"; it returns names of those that failed.

    Args:
        output: folder of the results.
        variants, seeds, epochs, fractions: which trainings.
        settings: what they have in common.
    """

    def run(
        output: Path,
        variants: Sequence[str] = ("sr", "les"),
        *,
        seeds: int = 1,
        epochs: int = 3,
        fractions: Sequence[float] = (1.0,),
        **settings: Any,
    ) -> list[str]:
        suite = suite_of(["dipeptides"], ["fake"], variants)
        suite = suite.only(seeds=seeds, epochs=epochs, fractions=fractions)
        settings = {"data": str(data), **settings}
        return run_here(suite.cells(), Settings(**settings), output)

    return run
