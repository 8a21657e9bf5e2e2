"""Calculators of MACE models: signs, outputs, options."""

from __future__ import annotations

import copy

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
from mace.calculators import MACECalculator

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer
from les_mace import LESCalculator


def test_hessian(model):
    calculator = LESCalculator(copy.deepcopy(model))
    atoms = crystal()
    hessian = calculator.get_hessian(atoms).reshape(18, 18)
    for row in (0, 4, 14):

        def forces(shift, row=row):
            moved = atoms.copy()
            moved.positions[row // 3, row % 3] += shift
            return results_of(calculator, moved)["forces"].ravel()

        np.testing.assert_allclose(hessian[row], -derivative(forces), atol=1e-6)


def test_calculators_that_share_a_model(model):
    """Each keeps its own choice of outputs."""
    shared = copy.deepcopy(model)
    with_bec = LESCalculator(shared, bec=True)
    without = LESCalculator(shared)
    atoms = dimer()
    assert "born_effective_charges" in results_of(with_bec, atoms)
    assert "born_effective_charges" not in results_of(without, atoms)
    assert "born_effective_charges" in results_of(with_bec, atoms)


def test_calculator_for_a_short_range_model(short_range_model):
    calculator = LESCalculator(copy.deepcopy(short_range_model))
    results = results_of(calculator, dimer())
    assert "les_energy" not in results
    assert "charges" not in results
    bad = dimer()
    bad.positions[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calculator.calculate(bad)


def test_calculator_of_a_short_range_model_takes_slabs(short_range_model):
    slab = crystal("cubic")
    slab.pbc = [True, True, False]
    ours = results_of(LESCalculator(copy.deepcopy(short_range_model)), slab)
    theirs = results_of(MACECalculator(models=copy.deepcopy(short_range_model)), slab)
    assert ours["energy"] == theirs["energy"]


def test_sign_is_chosen_once(model, scale_charges):
    """Charges that change sign along a trajectory must not be turned back."""
    own = copy.deepcopy(model)
    calculator = LESCalculator(own)
    first = results_of(calculator, dimer())
    scale_charges(own, -1.0)
    second = results_of(calculator, dimer())
    for key in ("charges", "dipole"):
        np.testing.assert_allclose(second[key], -np.asarray(first[key]), rtol=1e-12)
    given = results_of(LESCalculator(own, sign=-calculator.charge_sign.sign), dimer())
    np.testing.assert_allclose(given["charges"], first["charges"], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": 2}, "`sign` must be 1, -1 or None, got 2"),
        ({"compile_mode": "default"}, "`compile_mode` is not supported"),
    ],
)
def test_bad_options_of_the_calculator(model, options, message):
    with pytest.raises(ValueError, match=message):
        LESCalculator(copy.deepcopy(model), **options)


def test_born_effective_charges_need_charges(short_range_model):
    with pytest.raises(ValueError, match="`bec` needs a model with LES, got a ScaleShiftMACE"):
        LESCalculator(copy.deepcopy(short_range_model), bec=True)
