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
from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    stress_by_differences,
)
from les.testing.structures import ROTATION, crystal, dimer, rotated, structures
from les.testing.total_charge import charged


def in_fragments(atoms: Atoms) -> Atoms:
    """Two water molecules as fragments with charges of 1 and -1 e."""
    atoms.arrays["fragment"] = np.repeat([3, 1], 3)
    atoms.arrays["fragment_charge"] = np.repeat([1.0, -1.0], 3)
    return atoms


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
        """They have the response of all charges, and sum to the total charge."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = charged(dimer(), -1)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), -np.eye(3), rtol=0, atol=1e-6)
        expected = born_by_differences(calc, atoms, 4, 2)
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=1e-6)

    def test_polarisability(self, calculator: CalculatorFactory) -> None:
        """It turns with the molecule, and is positive."""
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

    def test_born_effective_charges_of_molecules_in_a_crystal(
        self, calculator: CalculatorFactory
    ) -> None:
        """Fragments that keep their charges have them, wherever the cell is cut."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = in_fragments(crystal("triclinic"))
        results = results_of(with_bec, atoms)
        for label, charge in ((3, 1.0), (1, -1.0)):
            found = results["charges"][atoms.arrays["fragment"] == label].sum()
            assert found == pytest.approx(charge, abs=1e-12)
        bec = results["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), np.zeros((3, 3)), rtol=0, atol=1e-6)
        expected = born_by_differences(calc, atoms, 4, 2)  # of the dipole of whole molecules
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=2e-6)
        cut = atoms.copy()
        cut.positions[1] -= atoms.cell[0] + atoms.cell[2]
        again = results_of(with_bec, cut)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(again, bec, rtol=0, atol=1e-6)

    def test_fragments_decide(self, calculator: CalculatorFactory) -> None:
        """A structure with other fragments is another one, and bad ones are refused."""
        calc = calculator()
        atoms = in_fragments(crystal("triclinic"))
        charges = np.array(calc.get_property("charges", atoms))
        atoms.arrays["fragment_charge"] *= 0.5
        halved = np.array(calc.get_property("charges", atoms))
        assert halved[:3].sum() == pytest.approx(0.5, abs=1e-12)
        del atoms.arrays["fragment"], atoms.arrays["fragment_charge"]
        free = np.array(calc.get_property("charges", atoms))
        assert np.abs(charges - free).max() > 1e-3
        for name, values, message in (
            ("fragment", np.repeat([0.0, 1.0], 3), "fragment must be one whole number for each"),
            ("fragment_charge", np.arange(6.0), "fragment_charge must be alike within a fragment"),
            ("fragment_charge", np.repeat([1.0, 0.0], 3), "must sum to the total charge, 0 e, got"),
        ):
            wrong = in_fragments(crystal("triclinic"))
            wrong.arrays[name] = values
            with pytest.raises(ValueError, match=message):
                calc.calculate(wrong)

    def test_electronegativity_and_hardness(self, calculator: CalculatorFactory) -> None:
        """With them charges have one chemical potential."""
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
