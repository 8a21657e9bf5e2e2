"""Tests: forces, stress and Born effective charges are derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.structures import CELLS, crystal, dimer, strained, structures


def derivative(function: Callable[[float], np.ndarray | float], step: float = 1e-3) -> np.ndarray:
    """Of ``function`` at zero, from four points; the error is of order ``step**4``."""
    near = np.asarray(function(step)) - np.asarray(function(-step))
    far = np.asarray(function(2 * step)) - np.asarray(function(-2 * step))
    return (8 * near - far) / (12 * step)


def force_by_differences(calc: Any, atoms: Atoms, atom: int, axis: int) -> float:
    """One component of the force on one atom [eV/A], from differences of energies."""
    return -float(derivative(lambda shift: _moved(calc, atoms, atom, axis, shift)["energy"]))


def born_by_differences(calc: Any, atoms: Atoms, atom: int, axis: int) -> np.ndarray:
    """Change of the dipole with one coordinate of one atom ``[3]`` [e], from differences."""
    return derivative(lambda shift: _moved(calc, atoms, atom, axis, shift)["dipole"])


def stress_by_differences(calc: Any, atoms: Atoms, strain: np.ndarray) -> float:
    """Sum of the products of stress and ``strain`` ``[3, 3]`` [eV/A^3], from differences."""
    energy = derivative(lambda x: results_of(calc, strained(atoms, x * strain))["energy"])
    return float(energy) / atoms.get_volume()


def whole_stress_by_differences(calc: Any, atoms: Atoms) -> np.ndarray:
    """The stress ``[3, 3]`` [eV/A^3], from differences of energies."""
    stress = np.zeros((3, 3))
    for row, column in zip(*np.triu_indices(3), strict=True):
        value = stress_by_differences(calc, atoms, shear(row, column))
        stress[row, column] = stress[column, row] = value
    return stress


def shear(row: int, column: int) -> np.ndarray:
    """The symmetric strain ``[3, 3]`` whose product with a stress is one component of it."""
    strain = np.zeros((3, 3))
    strain[row, column] += 0.5
    strain[column, row] += 0.5
    return strain


def _moved(calc: Any, atoms: Atoms, atom: int, axis: int, shift: float) -> dict[str, Any]:
    moved = atoms.copy()
    moved.positions[atom, axis] += shift
    return results_of(calc, moved)


class DerivativeTests(Adapter):
    """Comparison of forces, stress and Born effective charges with finite differences."""

    @pytest.mark.parametrize("name", ["open", *CELLS])
    def test_forces(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = structures()[name]
        forces = results_of(calc, atoms)["forces"]
        for atom, axis in ((0, 0), (1, 2), (4, 1)):
            expected = force_by_differences(calc, atoms, atom, axis)
            assert forces[atom, axis] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    @pytest.mark.parametrize("cell", CELLS)
    def test_stress(self, calculator: CalculatorFactory, cell: str) -> None:
        calc = calculator()
        atoms = crystal(cell)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        expected = whole_stress_by_differences(calc, atoms)
        np.testing.assert_allclose(stress, expected, rtol=0, atol=self.stress_tolerance)

    def test_long_range_part_of_the_stress_matters(
        self, calculator: CalculatorFactory, upstream_calculator: CalculatorFactory
    ) -> None:
        """The long-range part is large enough for the test above to detect its absence."""
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
                expected = born_by_differences(calc, atoms, atom, axis)
                found = bec[atom].reshape(3, 3)[:, axis]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
