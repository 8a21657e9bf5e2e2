"""Tests: Born effective charges are those of an infinite crystal, or of a molecule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.derivatives import derivative
from les.testing.structures import CELLS, crystal, dimer


def _born_effective_charges(calc: object, atoms: Atoms) -> np.ndarray:
    """``[n_atoms, 3, 3]``, the component of the polarisation first."""
    found: np.ndarray = results_of(calc, atoms)["born_effective_charges"]
    return found.reshape(-1, 3, 3)


class ResponseTests(Adapter):
    """Supercells, sums over charges, and sum rules."""

    @pytest.mark.parametrize("name", [*CELLS, "slab"])
    def test_supercells_have_the_same_born_effective_charges(
        self, calculator: CalculatorFactory, name: str
    ) -> None:
        """The cells are smaller than the receptive field of the charge of an atom."""
        calc = calculator(bec=True)
        atoms = crystal("triclinic" if name == "slab" else name)
        atoms.pbc = (True, True, name != "slab")
        one = _born_effective_charges(calc, atoms)
        many = _born_effective_charges(calc, atoms.repeat((2, 1, 1)))
        np.testing.assert_allclose(many, np.tile(one, (2, 1, 1)), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("cell", ["cubic", "triclinic"])
    def test_born_effective_charges_of_a_crystal(
        self, calculator: CalculatorFactory, cell: str
    ) -> None:
        """They sum over all charges that an atom changes, times the distances from the atom."""
        atoms = crystal(cell)
        heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell[:]), axis=0)
        large = atoms.repeat([math.ceil(2.0 * self.receptive_field / x) for x in heights])
        calc = calculator()
        charges = results_of(calc, atoms)["charges"]
        atom, axis = 1, 2
        arms = large.get_distances(atom, range(len(large)), mic=True, vector=True)
        # What is read for an atom so far away does not change; a shift to the right sum is the
        # same for all atoms, and would vanish in an infinite crystal.
        far = int(np.linalg.norm(arms, axis=1).argmax())
        assert np.linalg.norm(arms[far]) > self.receptive_field

        def changed(shift: float) -> np.ndarray:
            moved = large.copy()
            moved.positions[atom, axis] += shift
            found = results_of(calc, moved)["charges"]
            return arms.T @ (found - found[far])

        expected = derivative(changed) + (charges[atom] - charges.mean()) * np.eye(3)[axis]
        found = _born_effective_charges(calculator(bec=True), atoms)[atom, :, axis]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)

    def test_molecule_in_a_large_cell(self, calculator: CalculatorFactory) -> None:
        """A crystal gives the results of the open molecule, but does not spread added charge."""
        calc, with_bec = calculator(sign=1), calculator(bec=True, sign=1)
        atoms = dimer()
        as_open = _born_effective_charges(with_bec, atoms)
        in_a_cell = atoms.copy()
        in_a_cell.set_cell(40.0 * np.eye(3))
        in_a_cell.pbc = True
        difference = as_open - _born_effective_charges(with_bec, in_a_cell)
        arms = atoms.positions - atoms.positions.mean(axis=0)
        far = Atoms("O", [[0.0, 0.0, 40.0]])
        for atom, axis in ((0, 0), (4, 2)):

            def total(shift: float, atom: int = atom, axis: int = axis) -> float:
                """Of what is read for the molecule, but for a constant; a shift is that of far."""
                moved = atoms + far
                moved.positions[atom, axis] += shift
                charges = results_of(calc, moved)["charges"]
                return float((charges[:-1] - charges[-1]).sum())

            np.testing.assert_allclose(
                difference[atom, :, axis], arms[atom] * derivative(total), rtol=0, atol=1e-8
            )

    def test_rotational_sum_rule(self, calculator: CalculatorFactory) -> None:
        """Turning a molecule turns its dipole."""
        atoms = dimer()
        results = results_of(calculator(bec=True), atoms)
        bec = results["born_effective_charges"].reshape(-1, 3, 3)
        for axis in np.eye(3):
            turned = np.einsum("iab,ib->a", bec, np.cross(axis, atoms.positions))
            np.testing.assert_allclose(
                turned, np.cross(axis, results["dipole"]), rtol=0, atol=1e-10
            )
