"""Tests: forces, stress and Born effective charges are derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.structures import CELLS, crystal, dimer, strained, structures


def derivative(function: Callable[[float], np.ndarray | float], step: float = 1e-3) -> np.ndarray:
    """Of ``function`` at zero, from four points; the error is of order ``step**4``."""
    near = np.asarray(function(step)) - np.asarray(function(-step))
    far = np.asarray(function(2 * step)) - np.asarray(function(-2 * step))
    return (8 * near - far) / (12 * step)


class DerivativeTests(Adapter):
    """Comparison with finite differences of what is differentiated."""

    @pytest.mark.parametrize("name", ["open", *CELLS])
    def test_forces(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = structures()[name]
        forces = results_of(calc, atoms)["forces"]
        for atom, axis in ((0, 0), (1, 2), (4, 1)):

            def energy(shift: float, atom: int = atom, axis: int = axis) -> float:
                moved = atoms.copy()
                moved.positions[atom, axis] += shift
                return results_of(calc, moved)["energy"]

            assert forces[atom, axis] == pytest.approx(
                -derivative(energy), rel=0, abs=self.force_tolerance
            )

    @pytest.mark.parametrize("cell", CELLS)
    def test_stress(self, calculator: CalculatorFactory, cell: str) -> None:
        calc = calculator()
        atoms = crystal(cell)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        volume = abs(np.linalg.det(atoms.cell[:]))
        expected = np.zeros((3, 3))
        for row in range(3):
            for column in range(row, 3):

                def energy(amount: float, row: int = row, column: int = column) -> float:
                    strain = np.zeros((3, 3))
                    strain[row, column] += 0.5 * amount
                    strain[column, row] += 0.5 * amount
                    return results_of(calc, strained(atoms, strain))["energy"]

                expected[row, column] = expected[column, row] = derivative(energy) / volume
        np.testing.assert_allclose(stress, expected, rtol=0, atol=self.stress_tolerance)

    def test_long_range_part_of_the_stress_matters(
        self, calculator: CalculatorFactory, upstream_calculator: CalculatorFactory
    ) -> None:
        """Otherwise the test above could not tell whether it is there."""
        atoms = crystal()
        change = (
            results_of(calculator(), atoms)["stress"]
            - results_of(upstream_calculator(), atoms)["stress"]
        )
        assert np.abs(change).max() > 100 * self.stress_tolerance

    def test_born_effective_charges_of_a_molecule(self, calculator: CalculatorFactory) -> None:
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = dimer()
        bec = results_of(with_bec, atoms)["born_effective_charges"]
        assert bec.shape == (len(atoms), 9)
        assert np.abs(bec).max() > 1e-3
        for atom in (0, 1, 5):
            for axis in range(3):

                def dipole(shift: float, atom: int = atom, axis: int = axis) -> np.ndarray:
                    moved = atoms.copy()
                    moved.positions[atom, axis] += shift
                    return results_of(calc, moved)["dipole"]

                np.testing.assert_allclose(
                    bec[atom].reshape(3, 3)[:, axis], derivative(dipole), rtol=0, atol=1e-8
                )
