"""NequIP and Allegro on the benchmark systems: short training, and what was trained before."""

from __future__ import annotations

import pytest

from les_nequip.backend import NequIPBackend

pytestmark = pytest.mark.usefixtures("nequip_state")

#: System, source of the data -> see ``Budget`` in tests/integrations/conftest.py. Of the folder
#: with reference data, which others train on as well, one system will do.
BUDGETS = {
    ("dipeptides", "embedded"): (30, 20, 10, 62.0, 405.0, 2.5),
    ("water", "embedded"): (6, 4, 20, 4.5, 335.0, 3.4),
    ("au2_mgo", "embedded"): (6, 4, 12, 13.0, 260.0, 1.4),
    ("water", "datadir"): (4, 2, 20, 16.5, 450.0, 1.65),
}


def make_small(config):
    config.update(batch_size=1, valid_batch_size=2)
    config["training_module"]["model"].update(
        num_layers=2, l_max=1, num_features=16, radial_mlp_width=16
    )
    config["training_module"]["_target_"] = "nequip.train.NequIPLightningModule"
    del config["training_module"]["ema_decay"]  # so few steps are no average
    config["trainer"]["log_every_n_steps"] = 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source"), BUDGETS)
def test_training(name, source, short_training):
    short_training(NequIPBackend(), name, source, make_small, *BUDGETS[name, source])


@pytest.mark.parametrize("model", ["nequip", "allegro"])
@pytest.mark.parametrize("system", ["water", "dipeptides", "au2_mgo"])
def test_model_that_was_trained_before(model, system, check_checkpoint):
    check_checkpoint(model, system)
