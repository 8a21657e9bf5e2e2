"""MACE on the benchmark systems: short training, and what was trained before."""

from __future__ import annotations

import mace  # noqa: F401  (before e3nn)
import pytest

from les_mace.backend import MACEBackend

#: System, source of the data -> see ``Budget`` in tests/integrations/conftest.py. Of the folder
#: with reference data, which others train on as well, one system will do.
BUDGETS = {
    ("dipeptides", "embedded"): (40, 20, 24, 70.0, 380.0, 2.5),
    ("water", "embedded"): (12, 6, 16, 3.0, 210.0, 5.0),
    ("au2_mgo", "embedded"): (8, 4, 16, 16.0, 230.0, 1.6),
    ("au2_mgo", "datadir"): (8, 4, 12, 3.0, 350.0, 1.2),
}


def make_small(config):
    config.update(num_channels=16, MLP_irreps="8x0e", batch_size=2, valid_batch_size=2, plot=False)
    del config["ema"], config["ema_decay"]  # so few steps are no average


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source"), BUDGETS)
def test_training(name, source, short_training):
    short_training(MACEBackend(), name, source, make_small, *BUDGETS[name, source])


@pytest.mark.parametrize("system", ["water", "dipeptides", "au2_mgo"])
def test_model_that_was_trained_before(system, check_checkpoint):
    check_checkpoint("mace", system)
