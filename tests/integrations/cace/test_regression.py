"""CACE on the benchmark systems: short training, and what was trained before."""

from __future__ import annotations

import pytest

from les.backends import get_backend

#: System, source of the data -> see ``Budget`` in tests/integrations/conftest.py.
BUDGETS = {
    ("dipeptides", "embedded"): (30, 20, 12, 66.0, 620.0, 1.65),
    ("water", "embedded"): (6, 4, 16, 7.6, 370.0, 3.0),
    ("au2_mgo", "embedded"): (6, 4, 16, 18.5, 120.0, 3.0),
    ("dipeptides", "datadir"): (30, 20, 12, 45.0, 640.0, 1.55),
    ("water", "datadir"): (4, 4, 16, 8.2, 410.0, 1.9),
    ("au2_mgo", "datadir"): (6, 4, 24, 4.6, 325.0, 1.25),
}


def make_small(config):
    config["model"].update(n_atom_basis=2, n_radial_basis=6, max_l=2, max_nu=2)
    config.update(batch_size=1, ema_decay=0.9, learning_rate=1e-2)


@pytest.mark.parametrize(("name", "source"), BUDGETS)
def test_training(name, source, short_training):
    short_training(get_backend("cace"), name, source, make_small, *BUDGETS[name, source])


@pytest.mark.parametrize("system", ["water", "dipeptides", "au2_mgo"])
def test_model_that_was_trained_before(system, check_checkpoint):
    check_checkpoint("cace", system)
