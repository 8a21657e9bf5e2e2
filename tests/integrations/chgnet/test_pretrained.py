"""The models that come with upstream's package, with charges added."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from chgnet.model import CHGNet, CHGNetCalculator

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import strained
from les_chgnet import CHGNetLES, LESCalculator


@pytest.fixture(scope="module")
def pretrained():
    """Upstream's model and the same with charges that are seen; tests must not change them."""
    torch.manual_seed(3)
    return CHGNet.load(use_device="cpu", verbose=False), CHGNetLES.from_pretrained("0.3.0")


@pytest.mark.parametrize("name", ["NaCl", "LiMnO2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pretrained_without_charges_is_upstreams(
    pretrained, scale_charges, upstream, crystals, name, dtype
):
    plain, longer = pretrained
    longer = copy.deepcopy(longer)
    assert longer.les.atomwise.n_features == 64
    scale_charges(longer, 0.0)
    calculator = LESCalculator(longer, dtype=dtype, use_device="cpu", skin=0.0)  # in its order
    actual = results_of(calculator, crystals[name])
    expected = results_of(upstream(plain, dtype), crystals[name])
    for key in ("energy", "energies", "forces", "stress", "magmoms"):
        np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


def test_pretrained_is_what_upstreams_calculator_gives(pretrained, scale_charges, crystals):
    """Upstream's calculator as it is: through its own conversion of the atoms."""
    plain, longer = pretrained
    longer = copy.deepcopy(longer)
    scale_charges(longer, 0.0)
    atoms = crystals["LiMnO2"]
    actual = results_of(LESCalculator(longer, use_device="cpu"), atoms)
    expected = results_of(CHGNetCalculator(plain, use_device="cpu"), atoms)
    assert actual["energy"] == pytest.approx(float(expected["energy"]), rel=1e-6)
    np.testing.assert_allclose(actual["forces"], expected["forces"], rtol=0, atol=2e-5)
    stress = full_3x3_to_voigt_6_stress(expected["stress"])
    np.testing.assert_allclose(actual["stress"], stress, rtol=0, atol=1e-5)


def test_derivatives_of_a_pretrained_model(pretrained, scale_charges, crystals):
    """The shared tests again, of weights of real size."""
    longer = copy.deepcopy(pretrained[1]).double()
    scale_charges(longer, 20.0)
    calculator = LESCalculator(longer, use_device="cpu")
    atoms = crystals["LiMnO2"]
    results = results_of(calculator, atoms)
    assert abs(results["les_energy"]) > 1e-2

    def energy_moved(shift):
        moved = atoms.copy()
        moved.positions[0, 1] += shift
        return results_of(calculator, moved)["energy"]

    assert results["forces"][0, 1] == pytest.approx(
        -derivative(energy_moved, step=1e-4), rel=0, abs=1e-8
    )
    stress = voigt_6_to_full_3x3_stress(results["stress"])
    for row, column in ((0, 0), (1, 2)):

        def energy_strained(amount, row=row, column=column):
            strain = np.zeros((3, 3))
            strain[row, column] += 0.5 * amount
            strain[column, row] += 0.5 * amount
            return results_of(calculator, strained(atoms, strain))["energy"]

        expected = derivative(energy_strained, step=1e-4) / atoms.get_volume()
        assert stress[row, column] == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("name", ["0.4.9", "", "chgnet"])
def test_unknown_pretrained_model(name):
    with pytest.raises(ValueError, match=rf"no pretrained CHGNet '{name}' \(there are: 0\.3\.0"):
        CHGNetLES.from_pretrained(name)


@pytest.mark.parametrize("name", ["0.2.0", "r2scan"])
def test_other_pretrained_models(scale_charges, upstream, crystals, name):
    """They differ in arguments of the architecture, too."""
    longer = CHGNetLES.from_pretrained(name)
    plain = CHGNet.load(model_name=name, use_device="cpu", verbose=False)
    assert longer.version == plain.version == name
    scale_charges(longer, 0.0)
    calculator = LESCalculator(longer, use_device="cpu", skin=0.0)  # pairs in upstream's order
    actual = results_of(calculator, crystals["LiMnO2"])
    expected = results_of(upstream(plain, "float32"), crystals["LiMnO2"])
    for key in ("energy", "forces", "stress", "magmoms"):
        np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


def test_new_charges_are_small_and_change_little(pretrained, crystals):
    """So that training starts from the pretrained model, but not where there is no gradient."""
    plain, longer = pretrained
    for atoms in crystals.values():
        results = results_of(LESCalculator(longer, use_device="cpu"), atoms)
        before = results_of(LESCalculator(plain, use_device="cpu"), atoms)["energy"]
        assert results["energy"] == pytest.approx(before + results["les_energy"], abs=1e-4)
        # Less their mean, which is the larger part of them.
        assert 1e-4 < np.abs(results["charges"]).max() < 0.5
        assert 0.0 < abs(results["les_energy"]) < 0.1 * len(atoms)
