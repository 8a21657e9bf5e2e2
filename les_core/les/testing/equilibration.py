"""Tests: equilibrated charges, of models with ``charge_equilibration``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les import Ewald
from les.spectra.polarisability import polarisability
from les.testing.adapter import CalculatorFactory, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    stress_by_differences,
)
from les.testing.fragments import FragmentTests
from les.testing.structures import ROTATION, crystal, dimer, rotated, structures
from les.testing.total_charge import charged


class EquilibrationTests(FragmentTests):
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
        """Equilibrated charges respond to a distant ion; charges read from features do not."""
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
        expected = force_by_differences(calc, atoms, 4, 2)
        assert forces[4, 2] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    def test_stress_is_a_derivative(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = charged(crystal("triclinic"), 1)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        strain = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        expected = stress_by_differences(calc, atoms, strain)
        actual = (stress * strain).sum()
        assert actual == pytest.approx(expected, rel=0, abs=3.0 * self.stress_tolerance)

    def test_born_effective_charges_of_a_molecule(self, calculator: CalculatorFactory) -> None:
        """Born effective charges include the response of charges, and sum to the total charge."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = charged(dimer(), -1)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), -np.eye(3), rtol=0, atol=1e-6)
        expected = born_by_differences(calc, atoms, 4, 2)
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=1e-6)

    def test_polarisability(self, calculator: CalculatorFactory) -> None:
        """The polarisability rotates with the molecule, and is positive."""
        calc = calculator()
        atoms = dimer()
        found = polarisability(calc, atoms)
        np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-6)
        assert np.linalg.eigvalsh(found)[-2:].min() > 1e-3
        with pytest.raises(ValueError, match="`strength` has no effect"):
            polarisability(calc, atoms, strength=0.01)
        turned = polarisability(calc, rotated(atoms, ROTATION))
        np.testing.assert_allclose(turned, ROTATION @ found @ ROTATION.T, rtol=0, atol=1e-5)

    def test_the_method_of_phases_is_refused(self, calculator: CalculatorFactory) -> None:
        with pytest.raises(ValueError, match="`bec='phase'` has no effect on equilibrated charges"):
            calculator(bec="phase")

    def test_a_crystal_has_no_born_effective_charges(self, calculator: CalculatorFactory) -> None:
        with pytest.raises(ValueError, match="periodic: equilibrated charges flow"):
            calculator(bec=True).calculate(crystal("triclinic"))

    def test_electronegativity_and_hardness(self, calculator: CalculatorFactory) -> None:
        """Electronegativities and hardnesses give all charges the same chemical potential."""
        calc = calculator()
        assert calc.les_config is not None
        atoms = charged(dimer(), -1)
        results = results_of(calc, atoms)
        q = torch.as_tensor(results["charges"], dtype=torch.float64)
        scale = calc.les_config.epsilon_factor**0.5
        ewald = Ewald(**calc.les_config.sum_settings())
        positions = torch.as_tensor(atoms.positions, dtype=torch.float64)
        potential = ewald(q / scale, positions, compute_potential=True)[1]
        assert potential is not None
        hardness = results["hardness"] * results["charges"] / scale
        level = results["electronegativity"] + hardness + potential.numpy()
        assert np.ptp(results["electronegativity"]) > 1e-2
        np.testing.assert_allclose(level, level.mean(), rtol=0, atol=1e-4)

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
