"""Tests: the energy and its derivatives have the symmetries of physics."""

from __future__ import annotations

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.structures import ROTATION, crystal, dimer, rotated, structures

STRUCTURES = ("open", "cubic", "triclinic", "left-handed")
#: Results that no symmetry operation changes.
INVARIANT = ("energy", "les_energy", "energies", "charges")


class SymmetryTests(Adapter):
    """Rotation, inversion, permutation, translation, choice of the cell."""

    @pytest.mark.parametrize("operation", ["rotation", "inversion", "reflection"])
    @pytest.mark.parametrize("name", STRUCTURES)
    def test_equivariance(self, calculator: CalculatorFactory, name: str, operation: str) -> None:
        matrix = {
            "rotation": ROTATION,
            "inversion": -np.eye(3),
            "reflection": np.diag([1.0, -1.0, 1.0]) @ ROTATION,
        }[operation]
        calc = calculator(bec=True)
        atoms = structures()[name]
        before = results_of(calc, atoms)
        after = results_of(calc, rotated(atoms, matrix))
        for key in INVARIANT:
            assert_close(after[key], before[key], self.rounding)
        for key in ("forces", "dipole"):
            assert_close(after[key], before[key] @ matrix.T, self.rounding)
        turned_bec = matrix @ before["born_effective_charges"].reshape(-1, 3, 3) @ matrix.T
        assert_close(after["born_effective_charges"], turned_bec.reshape(-1, 9), self.rounding)
        if atoms.pbc.all():
            stress = voigt_6_to_full_3x3_stress(before["stress"])
            assert_close(
                voigt_6_to_full_3x3_stress(after["stress"]),
                matrix @ stress @ matrix.T,
                self.rounding,
            )

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_permutation(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator(bec=True)
        atoms = structures()[name]
        order = np.array([4, 0, 5, 2, 3, 1])
        before, after = results_of(calc, atoms), results_of(calc, atoms[order])
        for key in ("energy", "les_energy", "dipole"):
            assert_close(after[key], before[key], self.rounding)
        for key in ("energies", "charges", "forces", "born_effective_charges"):
            assert_close(after[key], before[key][order], self.rounding)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_translation(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator(bec=True)
        atoms = structures()[name]
        moved = atoms.copy()
        moved.translate([13.1, -4.2, 0.7])
        before, after = results_of(calc, atoms), results_of(calc, moved)
        for key in (*INVARIANT, "forces", "dipole", "born_effective_charges"):
            assert_close(after[key], before[key], self.rounding)
        # No net force, and no net charge transport when everything moves together.
        assert_close(before["forces"].sum(axis=0), np.zeros(3), self.rounding)
        if name == "open":
            total = before["born_effective_charges"].sum(axis=0)
            assert_close(total, np.zeros(9), self.rounding)

    @pytest.mark.parametrize("name", ["cubic", "left-handed"])
    def test_moving_an_atom_by_a_lattice_vector(
        self, calculator: CalculatorFactory, name: str
    ) -> None:
        calc = calculator(bec=True)
        atoms = crystal(name)
        moved = atoms.copy()
        moved.positions[1] += np.array([1, -2, 1]) @ atoms.cell[:]
        before, after = results_of(calc, atoms), results_of(calc, moved)
        for key in (*INVARIANT, "forces", "stress", "born_effective_charges"):
            assert_close(after[key], before[key], self.rounding)

    def test_equivalent_cell_vectors(self, calculator: CalculatorFactory) -> None:
        """Results do not depend on the order and direction of cell vectors, or on handedness."""
        calc = calculator()
        atoms = crystal("triclinic")
        expected = results_of(calc, atoms)
        for change in ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, -1, 0], [0, 0, 1]]):
            other = atoms.copy()
            other.set_cell(np.array(change) @ atoms.cell[:])
            actual = results_of(calc, other)
            for key in (*INVARIANT, "forces", "stress"):
                assert_close(actual[key], expected[key], self.rounding)

    def test_supercell(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = crystal("triclinic")
        one, two = results_of(calc, atoms), results_of(calc, atoms.repeat((1, 2, 1)))
        for key in ("energy", "les_energy"):
            assert_close(two[key], 2 * one[key], self.rounding)
        assert_close(two["charges"], np.tile(one["charges"], 2), self.rounding)
        assert_close(two["forces"], np.tile(one["forces"], (2, 1)), self.rounding)
        assert_close(two["stress"], one["stress"], self.rounding)

    def test_distant_molecules_feel_each_other(self, calculator: CalculatorFactory) -> None:
        """Beyond every cutoff the energy depends on the distance as that of charges does."""
        calc = calculator()
        near, far = dimer(), dimer()
        near.positions[3:] += [0, 0, 20.0]
        far.positions[3:] += [0, 0, 40.0]
        one, other = results_of(calc, near), results_of(calc, far)
        assert_close(one["charges"], other["charges"], self.rounding)
        assert abs(one["energy"] - other["energy"]) > 1e-6
        assert one["energy"] - other["energy"] == pytest.approx(
            one["les_energy"] - other["les_energy"], rel=1e-6
        )
