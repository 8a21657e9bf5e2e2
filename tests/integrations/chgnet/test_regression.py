"""CHGNet on the benchmark systems: short training, and what was trained before."""

from __future__ import annotations

import pytest
import yaml
from ase.io import write

from les.backends import TrainingJob, get_backend
from les_bench.systems.datasets import load
from les_bench.systems.systems import get_system

#: System, source of the data -> see ``Budget`` in tests/integrations/conftest.py.
BUDGETS = {
    ("dipeptides", "embedded"): (30, 20, 12, 56.0, 500.0, 2.1),
    ("water", "embedded"): (6, 4, 10, 5.3, 360.0, 3.2),
    ("au2_mgo", "embedded"): (6, 4, 12, 4.0, 230.0, 1.6),
    ("dipeptides", "datadir"): (30, 20, 12, 31.0, 600.0, 1.7),
    ("water", "datadir"): (4, 4, 10, 9.2, 420.0, 1.8),
    ("au2_mgo", "datadir"): (6, 4, 12, 6.8, 355.0, 1.15),
}


def make_small(config):
    config["model"].update(
        atom_fea_dim=32, bond_fea_dim=32, angle_fea_dim=32, atom_conv_hidden_dim=32,
        bond_conv_hidden_dim=32, mlp_hidden_dims=[32], n_conv=2, num_radial=9, num_angular=5,
        atom_graph_cutoff=4.0, bond_graph_cutoff=2.2,
    )  # fmt: skip
    config.update(batch_size=2, valid_batch_size=4, learning_rate=5e-3)


@pytest.mark.parametrize(
    ("name", "source"),
    [pytest.param(*key, marks=[pytest.mark.slow] * (key[0] == "dipeptides")) for key in BUDGETS],
)
def test_training(name, source, short_training):
    short_training(get_backend("chgnet"), name, source, make_small, *BUDGETS[name, source])


@pytest.mark.parametrize(
    ("name", "forces", "factor"), [("water", 0.390, 1.9), ("au2_mgo", 0.260, 1.1)]
)
def test_training_without_les(name, forces, factor, les_command, tmp_path):
    """Forces [eV/A] of the validation frames, as the learning curve has them."""
    backend = get_backend("chgnet")
    system = get_system(name)
    config = yaml.safe_load(backend.configs()[system.config].read_text())
    make_small(config)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    dataset = load(system, "embedded")
    for split, n in (("train", 6), ("valid", 4)):
        frames = getattr(dataset, split)
        write(tmp_path / f"{split}.xyz", frames[:: len(frames) // n][:n], format="extxyz")
    files = [tmp_path / f"{x}.xyz" for x in ("train", "valid")]
    job = TrainingJob(name, tmp_path, tmp_path / "config.yaml", *files, epochs=10)
    assert les_command("train", "chgnet", "--no-les", *backend.training_arguments(job)) == 0
    history = backend.history(job)
    lowest = min(record.valid_force_rmse for record in history)
    assert lowest < forces
    assert history[0].valid_force_rmse > factor * lowest


@pytest.mark.parametrize("system", ["water", "dipeptides", "au2_mgo"])
def test_model_that_was_trained_before(system, check_checkpoint):
    check_checkpoint("chgnet", system)
