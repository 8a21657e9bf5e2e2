"""Tests: charges that sum to nothing in particular, as those of published models do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    stress_by_differences,
)
from les.testing.structures import crystal, dimer, structures


class FreeChargesTests(Adapter):
    """Tests of an adapter whose fixtures give a model with ``neutrality`` ``"none"``.

    Subclass it beside :class:`AdapterTests`, with the fixtures ``calculator`` and
    ``predict_batch`` of such a model.
    """

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_charges_keep_their_mean(self, calculator: CalculatorFactory, name: str) -> None:
        """The energy depends on the mean charge; the dipole does not, for any origin."""
        atoms = structures()[name]
        calc = calculator()
        results = results_of(calc, atoms)
        charges = results["charges"]
        assert abs(charges.mean()) > 1e-3
        np.testing.assert_allclose(
            results["dipole"], (charges - charges.mean()) @ atoms.positions, rtol=0, atol=1e-10
        )
        atoms.positions += [1.7, -0.4, 2.2]
        moved = results_of(calc, atoms)
        np.testing.assert_allclose(moved["dipole"], results["dipole"], rtol=0, atol=1e-9)

    def test_total_charge_has_no_effect(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = dimer()
        atoms.info["total_charge"] = 0
        neutral = results_of(calc, atoms)
        atoms.info["total_charge"] = -1
        with pytest.warns(UserWarning, match="total_charge = -1, which this model cannot use"):
            charged = results_of(calc, atoms)
        calc.calculate(atoms)  # says so once
        assert charged["energy"] == neutral["energy"]

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_forces_are_derivatives(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = structures()[name]
        forces = results_of(calc, atoms)["forces"]
        for atom, axis in ((0, 0), (4, 2)):
            expected = force_by_differences(calc, atoms, atom, axis)
            assert forces[atom, axis] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    def test_stress_is_a_derivative(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = crystal("triclinic")
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        strain = np.array([[1.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
        expected = stress_by_differences(calc, atoms, strain)
        actual = (stress * strain).sum()
        assert actual == pytest.approx(expected, rel=0, abs=2 * self.stress_tolerance)

    def test_born_effective_charges_are_derivatives(self, calculator: CalculatorFactory) -> None:
        calc, with_bec = calculator(), calculator(bec=True)
        bec = results_of(with_bec, dimer())["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), np.zeros((3, 3)), rtol=0, atol=1e-10)
        for atom, axis in ((0, 0), (4, 2)):
            expected = born_by_differences(calc, dimer(), atom, axis)
            np.testing.assert_allclose(bec[atom, :, axis], expected, rtol=0, atol=1e-8)

    def test_a_batch_is_each_alone(
        self,
        calculator: CalculatorFactory,
        predict_batch: Callable[[Sequence[Atoms]], dict[str, Any]],
    ) -> None:
        calc = calculator(sign=1)
        batch = [dimer(), crystal("triclinic"), dimer()[:3]]
        single = [results_of(calc, atoms) for atoms in batch]
        together = predict_batch(batch)
        for key in ("energy", "les_energy"):
            assert_close(together[key], [results[key] for results in single], self.rounding)
        for key in ("forces", "charges"):
            expected = np.concatenate([results[key] for results in single])
            assert_close(together[key], expected, self.rounding)
