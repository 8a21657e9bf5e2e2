"""Short training on the three benchmark systems: errors fall, and stay where they were.

The shipped configurations, with a smaller model and few frames. The bounds are the values
found when this was written, plus about a quarter; how good the models get with a real
budget is what ``les bench`` is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import write

from les.backend import TrainingJob, get_backend
from les_bench.datasets import load
from les_bench.systems import get_system

pytestmark = pytest.mark.usefixtures("nequip_state")

BACKEND = get_backend("nequip")


@dataclass(frozen=True)
class Budget:
    """What to train on and for how long, and what must come out."""

    n_train: int
    n_test: int  # at most, of the validation set
    epochs: int
    #: Largest standard deviation of the energy error per atom on the test frames
    #: [meV/atom], so that a few frames with an offset of the energies are enough.
    energy: float
    #: Largest RMSE of the forces there [meV/A].
    forces: float
    #: The force error is below that of no forces at least by this factor.
    factor: float


BUDGETS = {
    ("dipeptides", "embedded"): Budget(30, 20, 10, energy=62.0, forces=405.0, factor=2.5),
    ("water", "embedded"): Budget(6, 4, 20, energy=4.5, forces=335.0, factor=3.4),
    ("au2_mgo", "embedded"): Budget(6, 4, 12, energy=13.0, forces=260.0, factor=1.4),
    ("dipeptides", "datadir"): Budget(30, 20, 10, energy=48.0, forces=440.0, factor=2.3),
    ("water", "datadir"): Budget(4, 2, 20, energy=16.5, forces=450.0, factor=1.65),
    ("au2_mgo", "datadir"): Budget(4, 2, 16, energy=15.5, forces=355.0, factor=1.15),
}
#: Sizes of the model.
SMALL = {"num_layers": 2, "l_max": 1, "num_features": 16, "radial_mlp_width": 16}


def spread(frames: list[Atoms], n: int) -> list[Atoms]:
    """At most ``n`` of ``frames``, evenly spread, with the labels that are trained on."""
    chosen = []
    for index in np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int):
        frame = Atoms(
            frames[index].numbers,
            frames[index].positions,
            cell=frames[index].cell,
            pbc=frames[index].pbc,
        )
        frame.info["REF_energy"] = frames[index].info["REF_energy"]
        frame.arrays["REF_forces"] = frames[index].arrays["REF_forces"]
        chosen.append(frame)
    return chosen


@pytest.mark.parametrize(("name", "source"), BUDGETS)
def test_training(name, source, les_command, tmp_path, request):
    budget = BUDGETS[name, source]
    folder = "embedded" if source == "embedded" else request.getfixturevalue("data_dir")
    dataset = load(get_system(name), str(folder))
    test = spread(dataset.valid, budget.n_test)
    write(tmp_path / "train.xyz", spread(dataset.train, budget.n_train), format="extxyz")
    write(tmp_path / "test.xyz", test, format="extxyz")

    config = yaml.safe_load(BACKEND.configs()[get_system(name).config].read_text())
    config.update(batch_size=1, valid_batch_size=2)
    config["training_module"]["model"].update(SMALL)
    config["training_module"]["_target_"] = "nequip.train.NequIPLightningModule"
    del config["training_module"]["ema_decay"]  # so few steps are no average
    config["trainer"]["log_every_n_steps"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    job = TrainingJob(
        name,
        tmp_path / "run",
        tmp_path / "config.yaml",
        tmp_path / "train.xyz",
        tmp_path / "test.xyz",
        epochs=budget.epochs,
    )
    assert les_command("train", "nequip", "--les", *BACKEND.training_arguments(job)) == 0

    calculator = BACKEND.calculator(BACKEND.trained_model(job), allow_pickle=True)
    energy_errors, force_errors, references = [], [], []
    for frame in test:
        calculator.calculate(frame)
        results = calculator.results
        reference = frame.arrays["REF_forces"]
        energy_errors.append((results["energy"] - frame.info["REF_energy"]) / len(frame))
        force_errors.append((results["forces"] - reference).ravel())
        references.append(reference.ravel())
        assert 1e-4 < np.abs(results["charges"]).max() < 5.0
    energy = 1e3 * float(np.std(energy_errors))
    forces, before = (
        1e3 * float(np.sqrt(np.mean(np.square(np.concatenate(values)))))
        for values in (force_errors, references)
    )
    assert energy < budget.energy
    assert forces < budget.forces
    assert before > budget.factor * forces
