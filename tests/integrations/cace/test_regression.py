"""Models on the three benchmark systems: what was trained before, and short training.

Models that are kept predict what they predicted; errors of a training fall, and stay where they
were.

The shipped configurations, with a smaller model and few frames. The bounds are the values
found when this was written, plus about a third; how good the models get with a real
budget is what ``les bench`` is for.
"""

from __future__ import annotations

import pytest

from les.backends import get_backend

#: By system and source of the data; see ``Budget`` in tests/integrations/conftest.py.
BUDGETS = {
    # frames to train on and to test, epochs; energy [meV/atom], forces [meV/A], factor
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
