"""Charges that a training from scratch starts from."""

from __future__ import annotations

import pytest
import torch

from les import ChargeReadout, LESConfig
from les.electronegativity import charges_of_electronegativity
from les.training.charge_start import HELD, held_charges, start_charges, starts_from_elements

WATER = torch.tensor([8, 1, 1])
SETTINGS = {"use_atomwise": True, "n_features": 5, "element_charges": True}
SETTINGS_OF_OTHERS = [
    {"neutrality": "none"},
    {"use_fixed_atomic_charges": True},
    {"charge_equilibration": True},
    {"n_channels": 2},
    {"element_charges": False},
]


def readout_of(settings):
    config = LESConfig(**{**SETTINGS, **settings})
    return ChargeReadout.of(config, 2), config


def test_order_of_electronegativities():
    """Oxygen, hydrogen, magnesium and fluorine; helium and what is unknown have none."""
    expected = torch.tensor([-0.62, 0.0, 0.445, -0.89, 0.0, 0.0, 0.0])
    found = charges_of_electronegativity([8, 1, 12, 9, 2, 0, 118])
    torch.testing.assert_close(found, expected)


def test_start():
    """Of charges of elements, and hardly anything of features."""
    torch.manual_seed(1)
    readout, config = readout_of({})
    assert starts_from_elements(readout, config, [WATER])
    start_charges(readout, [8, 1])
    charges = readout(torch.randn(2, 5), torch.tensor([0, 1]))
    torch.testing.assert_close(charges, torch.tensor([[-0.62], [0.0]]), rtol=0, atol=0.01)
    assert charges[1].abs() > 0  # which would have no gradient at zero


@pytest.mark.parametrize("settings", SETTINGS_OF_OTHERS, ids=str)
def test_no_start(settings):
    """Where the charges of elements would not be the charges, or none are learned."""
    assert not starts_from_elements(*readout_of(settings), [WATER])


@pytest.mark.parametrize("data", [[[14]], [[46, 78]], [[1, 15]], [[13], [29]]], ids=str)
def test_no_start_of_elements_that_are_alike(data):
    """In no structure they differ: charges would be smaller than at random."""
    assert not starts_from_elements(*readout_of({}), [torch.tensor(each) for each in data])


def test_no_start_of_elements_without_a_value():
    """Terbium has none, and is no hydrogen."""
    assert not starts_from_elements(*readout_of({}), [WATER, torch.tensor([8, 65])])


def test_without_charges():
    assert not starts_from_elements(None, None, [WATER])


def test_held():
    """The charges of elements, in the first epochs only, and nothing else."""
    readout, _ = readout_of({})
    held = held_charges(readout, 20)
    for epoch in range(20):
        held.start_epoch(epoch)
        for name, parameter in readout.named_parameters():
            is_held = name == "of_elements.charges" and epoch < HELD * 20
            assert parameter.requires_grad != is_held, (epoch, name)
