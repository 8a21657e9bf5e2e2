"""Charges that a training from scratch starts from."""

from __future__ import annotations

import pytest
import torch

from les import ChargeReadout, LESConfig
from les.electronegativity import charges_of_electronegativity
from les.training.charge_start import HELD, held_charges, start_charges, starts_from_elements
from les.training.freezing import FrozenShortRange

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
    assert starts_from_elements(readout, config, {1, 8})
    start_charges(readout, [8, 1])
    charges = readout(torch.randn(2, 5), torch.tensor([0, 1]))
    torch.testing.assert_close(charges, torch.tensor([[-0.62], [0.0]]), rtol=0, atol=0.01)
    assert charges[1].abs() > 0  # which would have no gradient at zero


@pytest.mark.parametrize("settings", SETTINGS_OF_OTHERS, ids=str)
def test_no_start(settings):
    """Where the charges of elements would not be the charges, or none are learned."""
    assert not starts_from_elements(*readout_of(settings), {1, 8})


@pytest.mark.parametrize("elements", [{14}, {46, 78}, {1, 15}, {2, 18}], ids=str)
def test_no_start_of_elements_that_are_alike(elements):
    """Charges are no smaller than at random."""
    assert not starts_from_elements(*readout_of({}), elements)


def test_without_charges():
    assert not starts_from_elements(None, None, {1, 8})


def test_held():
    """The charges of elements, in the first epochs only, and nothing else."""
    readout, _ = readout_of({})
    held = held_charges(readout, 20)
    for epoch in range(20):
        held.start_epoch(epoch)
        for name, parameter in readout.named_parameters():
            is_held = name == "of_elements.charges" and epoch < HELD * 20
            assert parameter.requires_grad != is_held, (epoch, name)


def test_held_beside_a_frozen_short_range_part():
    """Each lets only those go that it holds itself."""
    readout, _ = readout_of({})
    model = torch.nn.ModuleList([readout, torch.nn.Linear(1, 1)])
    parts = [FrozenShortRange(model, readout.parameters(), 1), held_charges(readout, 20)]
    charges, other = readout.of_elements.charges, model[1].weight
    expected = {0: (False, False), 1: (False, True), 2: (False, True), 3: (True, True)}
    for epoch, trained in expected.items():
        for part in parts:
            part.start_epoch(epoch)
        assert (charges.requires_grad, other.requires_grad) == trained
