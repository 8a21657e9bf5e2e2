"""Tests: structures with two periodic axes, for adapters that support them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, results_of
from les.testing.batches import BatchFunction
from les.testing.derivatives import force_by_differences, whole_stress_by_differences
from les.testing.structures import ROTATION, crystal, dimer, rotated

#: Makes a layer in the plane of x and y one that stands on an edge, turned about z.
_LYING = ROTATION @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


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
            expected = force_by_differences(calc, atoms, atom, axis)
            actual = results["forces"][atom, axis]
            assert actual == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    @pytest.mark.parametrize(
        ("open_axis", "turn", "shift"),
        [(0, None, 0.0), (1, None, 0.0), (2, None, 0.0), (2, None, 31.0), (2, _LYING, -7.0)],
        ids=["x", "y", "z", "shifted", "lying"],
    )
    def test_stress_of_a_slab(
        self,
        calculator: CalculatorFactory,
        open_axis: int,
        turn: np.ndarray | None,
        shift: float,
    ) -> None:
        """The stress is per volume of the cell as given, for any position along the open axis."""
        calc = calculator()
        atoms = slab(open_axis)
        atoms.positions[:, open_axis] += shift
        if turn is not None:
            atoms = rotated(atoms, turn)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        expected = whole_stress_by_differences(calc, atoms)
        assert np.abs(expected).max() > 100 * self.stress_tolerance
        np.testing.assert_allclose(stress, expected, rtol=0, atol=self.stress_tolerance)

    @pytest.mark.parametrize("vector", [(0.0, 0.0, 0.0), (4.0, 3.0, 0.0)], ids=["none", "flat"])
    def test_slab_without_vacuum_has_no_stress(
        self, calculator: CalculatorFactory, vector: tuple[float, float, float]
    ) -> None:
        """A cell has no volume if its third vector is missing or lies in the plane of the slab."""
        calc = calculator()
        expected = results_of(calc, slab())
        bare = slab()
        bare.cell[2] = vector
        actual = results_of(calc, bare)
        assert "stress" not in actual
        for key in ("energy", "les_energy", "forces"):
            np.testing.assert_allclose(actual[key], expected[key], rtol=1e-7, atol=1e-8)

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
