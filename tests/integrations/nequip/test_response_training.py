"""Training on Born effective charges and dipoles, in upstream's loss and metrics."""

from __future__ import annotations

from typing import ClassVar

import pytest
import yaml

from les.testing import ResponseTrainingTests

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture(scope="module")
def backend_name():
    return "nequip"


@pytest.fixture(scope="module")
def short_averages(make_config):
    """A function that makes a configuration whose averaged weights follow a few steps."""

    def make(kind):
        path = make_config(kind=kind)
        config = yaml.safe_load(path.read_text())
        config["training_module"]["ema_decay"] = 0.5
        path.write_text(yaml.safe_dump(config))
        return path

    return make


@pytest.fixture(scope="module")
def small_options(short_averages):
    return {"name": "small", "config": short_averages("nequip"), "seed": 3}


class TestResponseTraining(ResponseTrainingTests):
    learning: ClassVar = {"epochs": 20, "learning_rate": 0.2}
    weight = 100.0
