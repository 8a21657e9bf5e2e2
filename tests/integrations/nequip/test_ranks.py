"""Atoms that are divided among ranks: results are those of the calculator."""

from __future__ import annotations

import pytest
import torch

from les.testing.ranks import check_divided
from les_nequip import LESCalculator

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture
def make_calculator(nequip_model, nequip_transforms):
    """Makes a calculator of a small model with large charges."""

    def make(kind, **settings):
        torch.manual_seed(2)
        model = nequip_model(kind, les={"initial_charge_scale": 200.0, **settings})
        return LESCalculator(model, transforms=nequip_transforms, sign=1)

    return make


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_results_are_those_of_the_calculator(kind, size, make_calculator, liquid):
    calculator = make_calculator(kind)
    assert calculator.short_range_part().n_layers == {"nequip": 2, "allegro": 1}[kind]
    check_divided(calculator, liquid, size)


def test_a_model_of_an_unknown_reach_is_refused(make_calculator):
    calculator = make_calculator("nequip")
    part = next(m for m in calculator.model.modules() if type(m).__name__ == "NodeTypeEmbed")
    part.__class__ = type("Mystery", (type(part),), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="not known where it takes features from"):
        calculator.short_range_part()


def test_a_model_without_charges_is_refused(nequip_model, nequip_transforms):
    calculator = LESCalculator(nequip_model("allegro"), transforms=nequip_transforms)
    with pytest.raises(ValueError, match="a model with LES is needed"):
        calculator.short_range_part()
