"""Tests: structures with two periodic axes, for adapters that support them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.batches import BatchFunction
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer


def slab(open_axis: int = 2, vacuum: float = 20.0) -> Atoms:
    """A layer of water in a cell with ``vacuum`` along one axis."""
    atoms = crystal("cubic")
    cell = np.array(atoms.cell[:])
    cell[open_axis] *= 1.0 + vacuum / np.linalg.norm(cell[open_axis])
    atoms.set_cell(cell)
    atoms.pbc = [axis != open_axis for axis in range(3)]
    return atoms


class SlabTests(Adapter):
    """Comparison with finite differences, and of one slab with itself."""

    @pytest.mark.parametrize("open_axis", [0, 2])
    def test_forces_of_a_slab(self, calculator: CalculatorFactory, open_axis: int) -> None:
        calc = calculator()
        atoms = slab(open_axis)
        results = results_of(calc, atoms)
        assert abs(results["les_energy"]) > 1e-3 * len(atoms)
        assert results["energies"].sum() == pytest.approx(results["energy"])
        for atom, axis in ((0, open_axis), (3, 1)):

            def energy(shift: float, atom: int = atom, axis: int = axis) -> float:
                moved = atoms.copy()
                moved.positions[atom, axis] += shift
                return results_of(calc, moved)["energy"]

            assert results["forces"][atom, axis] == pytest.approx(
                -derivative(energy), rel=0, abs=self.force_tolerance
            )

    def test_vacuum_does_not_matter(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        expected = results_of(calc, slab())
        moved = slab(vacuum=57.0)
        moved.positions[:, 2] += 31.0
        for key in ("energy", "les_energy", "forces", "charges"):
            actual = results_of(calc, moved)[key]
            np.testing.assert_allclose(actual, expected[key], rtol=1e-7, atol=1e-8, err_msg=key)
        periodic = slab()
        periodic.pbc = True
        assert abs(results_of(calc, periodic)["les_energy"] - expected["les_energy"]) > 1e-7

    def test_slab_in_a_batch(
        self, calculator: CalculatorFactory, predict_batch: BatchFunction
    ) -> None:
        calc = calculator()
        structures = [dimer(), slab(), crystal()]
        energies = [results_of(calc, atoms)["energy"] for atoms in structures]
        np.testing.assert_allclose(predict_batch(structures)["energy"], energies, rtol=1e-9)
