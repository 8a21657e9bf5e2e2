"""Tests: without charges, the model is upstream's own."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.structures import structures


class ShortRangeTests(Adapter):
    """The limit of zero charges is upstream's model, and charges make a difference."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", ["open", "triclinic", "left-handed"])
    def test_zero_charges_give_upstream_numbers(
        self,
        calculator: CalculatorFactory,
        upstream_calculator: CalculatorFactory,
        name: str,
        dtype: str,
    ) -> None:
        """To the last bit, where pairs have the order in which upstream adds them up."""
        atoms = structures()[name]
        actual = results_of(calculator(dtype=dtype, zero_charges=True, skin=0.0), atoms)
        expected = results_of(upstream_calculator(dtype=dtype), atoms)
        assert actual["les_energy"] == 0.0
        assert not actual["charges"].any()
        assert not actual["dipole"].any()
        keys = ["energy", "forces"] + ["stress"] * bool(atoms.pbc.all())
        for key in keys:
            np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_charges_add_the_long_range_energy(
        self,
        calculator: CalculatorFactory,
        upstream_calculator: CalculatorFactory,
        name: str,
    ) -> None:
        atoms = structures()[name]
        actual = results_of(calculator(), atoms)
        expected = results_of(upstream_calculator(), atoms)
        assert actual["energy"] - expected["energy"] == pytest.approx(
            actual["les_energy"], rel=1e-6
        )
        assert np.abs(actual["forces"] - expected["forces"]).max() > 1e-4

    @pytest.mark.parametrize("periodic", [False, True])
    def test_isolated_atom(
        self,
        calculator: CalculatorFactory,
        upstream_calculator: CalculatorFactory,
        periodic: bool,
    ) -> None:
        atoms = Atoms("O", [[0.1, 0.2, 0.3]], cell=[20.0, 20.0, 20.0], pbc=periodic)
        actual = results_of(calculator(bec=True), atoms)
        expected = results_of(upstream_calculator(), atoms)
        # An atom has no long-range energy but, in a cell, that with its own images.
        assert abs(actual["les_energy"]) < (1.0 if periodic else 1e-12)
        assert actual["energy"] - actual["les_energy"] == pytest.approx(expected["energy"])
        np.testing.assert_allclose(actual["forces"], 0.0, atol=1e-9)
        np.testing.assert_allclose(actual["dipole"], 0.0, atol=1e-12)
        assert np.isfinite(actual["born_effective_charges"]).all()
