"""Atoms that are divided among ranks: results are those of the calculator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from les.engines import potential
from les.testing.ranks import check_divided, divided_results
from les_cace import CACE, LESCalculator


@pytest.fixture
def make_calculator(small):
    """Makes a calculator of a small model with large charges."""

    def make(**settings):
        torch.manual_seed(2)
        charge_representation = settings.pop("charge_representation", None)
        model = CACE(
            small, settings, charge_representation=charge_representation, atomic_energies=[1.0, 2.0]
        ).double()
        return LESCalculator(model, dtype="float64", sign=1)

    return make


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"initial_charge_scale": 200.0},
        {"initial_charge_scale": 200.0, "n_channels": 2, "neutrality": "none"},
    ],
)
def test_results_are_those_of_the_calculator(liquid, make_calculator, settings, size):
    check_divided(make_calculator(**settings), liquid, size)


@pytest.mark.parametrize("pbc", [[True, True, True], [True, True, False], [False, True, True]])
@pytest.mark.parametrize("settings", [{}, {"neutrality": "none"}, {"epsilon_factor": 1.8}])
def test_born_effective_charges(liquid, make_calculator, settings, pbc):
    """Of a crystal that is smaller than the reach of the model, and of slabs."""
    liquid.pbc = pbc
    calculator = make_calculator(initial_charge_scale=200.0, **settings)
    calculator.bec = True
    check_divided(calculator, liquid, 3)
    born = calculator.results["born_effective_charges"]
    assert np.ptp(born, axis=0).max() > 1e-2


def test_total_charge(liquid, make_calculator):
    calculator = make_calculator(initial_charge_scale=200.0)
    liquid.info["charge"] = 1.0
    liquid.calc = calculator
    found = divided_results(calculator, liquid, 2, total_charge=1.0)
    np.testing.assert_allclose(found["charges"].sum(), 1.0, atol=1e-12)
    np.testing.assert_allclose(found["energy"], liquid.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(found["forces"], liquid.get_forces(), rtol=1e-10, atol=1e-10)


def test_charges_of_another_reach(liquid, make_calculator, small):
    calculator = make_calculator(
        initial_charge_scale=200.0, charge_representation={**small, "cutoff": 3.0}
    )
    liquid.calc = calculator
    found = divided_results(calculator, liquid, 2)
    np.testing.assert_allclose(found["forces"], liquid.get_forces(), rtol=1e-10, atol=1e-10)


def test_settings_that_are_not_heeded_are_refused(make_calculator, liquid, monkeypatch):
    """One that a later release may have."""
    monkeypatch.setattr(potential, "HEEDED", potential.HEEDED - {"initial_charge_scale"})
    with pytest.raises(ValueError, match=r"`initial_charge_scale` = 200\.0 cannot be divided"):
        divided_results(make_calculator(initial_charge_scale=200.0), liquid, 1)


@pytest.mark.parametrize("setting", ["embed_total_charge", "embed_spin", "charge_equilibration"])
def test_states_and_equilibration_are_refused(setting, make_calculator, liquid):
    calculator = make_calculator(neutrality="shift", **{setting: True})
    with pytest.raises(ValueError, match=rf"`{setting}` = True cannot be divided"):
        divided_results(calculator, liquid, 1)


def test_a_model_without_charges_is_refused(small):
    with pytest.raises(ValueError, match="a model with LES is needed"):
        LESCalculator(CACE(small)).short_range_part()
