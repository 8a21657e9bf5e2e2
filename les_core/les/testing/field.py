"""Tests: a model in an electric field, and Born effective charges only where they are wanted."""

from __future__ import annotations

import numpy as np
import pytest

from les.spectra.field import HomogeneousField
from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.derivatives import force_by_differences
from les.testing.structures import crystal, dimer

#: [V/A]
_FIELD = np.array([0.2, -0.3, 0.1])


class FieldTests(Adapter):
    """Energy and forces in a homogeneous field."""

    def test_forces_in_a_field(self, calculator: CalculatorFactory) -> None:
        """Forces are derivatives of the energy of a molecule in the field."""
        in_field = HomogeneousField(calculator(bec=True), _FIELD)
        atoms = dimer()
        forces = results_of(in_field, atoms)["forces"]
        for atom, axis in ((0, 1), (4, 2)):
            expected = force_by_differences(in_field, atoms, atom, axis)
            assert forces[atom, axis] == pytest.approx(expected, abs=1e-6)
        without = results_of(calculator(), atoms)["forces"]
        assert np.abs(forces - without).max() > 1e-4

    def test_work_of_a_field_on_a_crystal(self, calculator: CalculatorFactory) -> None:
        """The energy along a path changes by the work of the forces."""
        atoms = crystal("triclinic")
        atoms.calc = HomogeneousField(calculator(bec=True), _FIELD, constant="E")
        step = 2e-4 * np.random.default_rng(0).normal(size=atoms.positions.shape)
        before, first = atoms.get_potential_energy(), atoms.get_forces()
        atoms.positions += step
        atoms.wrap()
        work = atoms.get_potential_energy() - before
        expected = -0.5 * ((first + atoms.get_forces()) * step).sum()
        assert work == pytest.approx(expected, rel=1e-3)

    def test_born_effective_charges_on_demand(self, calculator: CalculatorFactory) -> None:
        """A calculator can skip Born effective charges for a while, to save time in dynamics."""
        calc, atoms = calculator(bec=True), crystal("cubic")
        expected = results_of(calc, atoms)
        calc.bec = False
        without = results_of(calc, atoms)
        assert "born_effective_charges" not in without
        np.testing.assert_allclose(without["forces"], expected["forces"], atol=1e-9)
        calc.bec = True
        found = results_of(calc, atoms)["born_effective_charges"]
        np.testing.assert_allclose(found, expected["born_effective_charges"], atol=1e-9)
