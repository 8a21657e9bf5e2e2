"""Sizes of charges over batches, and what a training says of them at its end."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms

from les.backends import EpochRecord
from les.training.charges import CHARGE_FIELDS, ChargeStatistics, charges_in_words
from les.training.closing import _tell_charges
from les.training.errors import Errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_of_structures(dtype):
    statistics = ChargeStatistics()
    assert statistics.values() == {}
    first = torch.tensor([0.3, -0.1, 0.4], dtype=dtype, requires_grad=True)
    energies = torch.tensor([0.2, -0.3], dtype=dtype)
    statistics.add(first, torch.tensor([0, 0, 1]), energies)
    statistics.add_results({"charges": np.array([-0.6, 0.1]), "les_energy": 0.4})
    statistics.add_results({"energy": 1.0})  # of a model without charges
    expected = {
        "valid_charge_rms": ((0.09 + 0.01 + 0.16 + 0.36 + 0.01) / 5) ** 0.5,
        "valid_total_charge_mean": (0.2 + 0.4 - 0.5) / 3,
        "valid_total_charge_max": 0.5,
        "valid_les_energy_rms": ((0.1**2 + 0.3**2 + 0.2**2) / 3) ** 0.5,
    }
    assert tuple(expected) == CHARGE_FIELDS
    assert statistics.values() == pytest.approx(expected, rel=1e-6)
    EpochRecord(epoch=0, **statistics.values())


def test_channels_count_as_charges():
    statistics = ChargeStatistics()
    charges = torch.tensor([[0.3, -1.0], [0.1, 0.2]])
    statistics.add(charges, torch.tensor([0, 0]), torch.tensor([0.2]))
    values = statistics.values()
    assert values["valid_charge_rms"] == pytest.approx(((0.09 + 1 + 0.01 + 0.04) / 4) ** 0.5)
    assert values["valid_total_charge_max"] == pytest.approx(0.8)
    assert values["valid_total_charge_mean"] == pytest.approx((0.4 - 0.8) / 2)


def test_the_epoch_record_has_what_the_errors_have():
    errors = Errors()
    errors.add("energy", torch.tensor([1.0]), torch.tensor([3.0]))
    results = {"charges": np.array([0.5, -0.5]), "les_energy": -0.2, "energy": 1.0}
    errors.add_structure(results, {"energy": np.array([2.0])}, len(Atoms("H2")))
    record = EpochRecord(epoch=3, **errors.of_validation())
    assert record.valid_energy_rmse == pytest.approx(((4.0 + 0.25) / 2) ** 0.5)
    assert record.valid_charge_rms == pytest.approx(0.5)
    assert "charges 0.5 e" in errors.summary()
    assert "charges" not in Errors().summary()


@pytest.mark.parametrize(("charge", "small"), [(0.4, False), (0.004, True)])
def test_the_closing_line(charge, small, caplog):
    caplog.set_level(logging.INFO, logger="les")
    sets = {name: Errors() for name in ("train", "valid", "test")}
    for factor, errors in enumerate(sets.values(), 1):
        results = {"charges": factor * np.array([charge, -charge]), "les_energy": -0.02}
        errors.charges.add_results(results)
    _tell_charges(sets)
    line, *warnings = caplog.messages
    assert line == f"valid: {charges_in_words(sets['valid'].charges.values())}"
    assert f"RMS {2 * charge:.3g} e" in line
    assert "long-range energy: RMS 10 meV/atom" in line
    assert [("docs/learning-charges.md" in text) for text in warnings] == [True] * small
    caplog.clear()
    _tell_charges({"train": Errors()})
    assert not caplog.messages
