"""Tests: equilibrated charges, of models with ``charge_equilibration``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer, strained, structures
from les.testing.total_charge import charged


class EquilibrationTests(Adapter):
    """Tests of an adapter whose fixtures give a model with ``charge_equilibration``.

    The sign of its charges is ``"trained"``. Subclass it beside :class:`AdapterTests`, with the
    fixtures ``calculator`` and ``predict_batch`` of such a model.
    """

    @pytest.mark.parametrize("charge", [0, -1])
    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_charges_sum_to_the_total_charge(
        self, calculator: CalculatorFactory, name: str, charge: float
    ) -> None:
        atoms = charged(structures()[name], charge)
        results = results_of(calculator(), atoms)
        assert results["charges"].sum() == pytest.approx(charge, abs=1e-12)
        assert np.ptp(results["charges"]) > 1e-3
        assert results["energies"].sum() == pytest.approx(results["energy"], abs=1e-9)
        np.testing.assert_allclose(
            results["dipole"], results["charges"] @ atoms.positions, rtol=0, atol=1e-10
        )

    def test_charges_respond_beyond_the_cutoff(self, calculator: CalculatorFactory) -> None:
        """Unlike charges that are read, they feel an ion far away."""
        calc = calculator()
        near = dimer()
        far = near.copy()
        far.positions += [3.0 * self.receptive_field, 0.0, 0.0]
        pair = near + far[:3]
        neutral = results_of(calc, pair)["charges"]
        alone = results_of(calc, near)["charges"]
        assert np.abs(neutral[: len(near)] - alone).max() > 1e-4

    @pytest.mark.parametrize("name", ["open", "triclinic", "slab"])
    def test_forces_are_derivatives(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = charged(structures()["triclinic" if name == "slab" else name], -1)
        if name == "slab":
            atoms.pbc = (True, True, False)
        forces = results_of(calc, atoms)["forces"]

        def energy(shift: float) -> float:
            moved = atoms.copy()
            moved.positions[4, 2] += shift
            return results_of(calc, moved)["energy"]

        expected = -derivative(energy)
        assert forces[4, 2] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    def test_stress_is_a_derivative(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = charged(crystal("triclinic"), 1)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])

        def energy(amount: float) -> float:
            strain = np.zeros((3, 3))
            strain[0, 0] = strain[1, 2] = strain[2, 1] = amount
            return results_of(calc, strained(atoms, strain))["energy"]

        expected = derivative(energy) / atoms.get_volume()
        actual = stress[0, 0] + 2.0 * stress[1, 2]
        assert actual == pytest.approx(expected, rel=0, abs=3.0 * self.stress_tolerance)

    def test_born_effective_charges_of_a_molecule(self, calculator: CalculatorFactory) -> None:
        """They have the response of all charges, and sum to the total charge."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = charged(dimer(), -1)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), -np.eye(3), rtol=0, atol=1e-6)

        def dipole(shift: float) -> np.ndarray:
            moved = atoms.copy()
            moved.positions[4, 2] += shift
            return results_of(calc, moved)["dipole"]

        np.testing.assert_allclose(bec[4, :, 2], derivative(dipole), rtol=0, atol=1e-6)

    def test_a_crystal_has_no_born_effective_charges(self, calculator: CalculatorFactory) -> None:
        with pytest.raises(ValueError, match="periodic: equilibrated charges flow"):
            calculator(bec=True).calculate(crystal("triclinic"))

    def test_a_batch_is_each_alone(
        self,
        calculator: CalculatorFactory,
        predict_batch: Callable[[Sequence[Atoms]], dict[str, Any]],
    ) -> None:
        calc = calculator()
        batch = [charged(dimer(), 1), charged(crystal("triclinic"), -2), dimer()[:3]]
        single = [results_of(calc, atoms) for atoms in batch]
        together = predict_batch(batch)
        for key in ("energy", "les_energy"):
            assert_close(together[key], [results[key] for results in single], self.rounding)
        for key in ("forces", "charges"):
            expected = np.concatenate([results[key] for results in single])
            np.testing.assert_allclose(together[key], expected, rtol=0, atol=1e-7)
