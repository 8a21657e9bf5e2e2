"""Tests: each fragment of a structure keeps its total charge, of models that are made to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    shear,
    stress_by_differences,
)
from les.testing.structures import crystal, dimer


def in_fragments(atoms: Atoms) -> Atoms:
    """Two water molecules as fragments with charges of 1 and -1 e."""
    atoms.arrays["fragment"] = np.repeat([3, 1], 3)
    atoms.arrays["fragment_charge"] = np.repeat([1.0, -1.0], 3)
    return atoms


class FragmentTests(Adapter):
    """Tests of an adapter whose fixtures give a model whose charges sum to total charges.

    The charges are shifted or equilibrated, and their sign is ``"trained"``. Results of such a
    model for whole structures are tested elsewhere (``les.testing.total_charge``,
    ``les.testing.equilibration``).
    """

    #: Largest difference of Born effective charges from differences of dipoles [e].
    bec_tolerance = 2e-6

    def test_born_effective_charges_of_molecules_in_a_crystal(
        self, calculator: CalculatorFactory
    ) -> None:
        """Fragments have Born effective charges that do not depend on where the cell cuts them."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = in_fragments(crystal("triclinic"))
        results = results_of(with_bec, atoms)
        for label, charge in ((3, 1.0), (1, -1.0)):
            found = results["charges"][atoms.arrays["fragment"] == label].sum()
            assert found == pytest.approx(charge, abs=1e-12)
        bec = results["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), np.zeros((3, 3)), rtol=0, atol=1e-6)
        expected = born_by_differences(calc, atoms, 4, 2)  # of the dipole of whole molecules
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=self.bec_tolerance)
        cut = atoms.copy()
        cut.positions[1] -= atoms.cell[0] + atoms.cell[2]
        again = results_of(with_bec, cut)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(again, bec, rtol=0, atol=1e-6)

    def test_forces_and_stress_of_fragments(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = in_fragments(crystal("triclinic"))
        results = results_of(calc, atoms)
        expected = force_by_differences(calc, atoms, 4, 2)
        assert results["forces"][4, 2] == pytest.approx(expected, abs=self.force_tolerance)
        stress = voigt_6_to_full_3x3_stress(results["stress"])
        expected = stress_by_differences(calc, atoms, shear(1, 2))
        assert stress[1, 2] == pytest.approx(expected, rel=0, abs=3.0 * self.stress_tolerance)

    def test_fragments_decide(self, calculator: CalculatorFactory) -> None:
        """Results depend on the fragments, and bad fragments are refused."""
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

    def test_a_batch_with_fragments_is_each_alone(self, calculator: CalculatorFactory) -> None:
        """Labels are local to a structure; a structure without labels is one fragment."""
        calc = calculator()
        structures = [in_fragments(crystal("triclinic")), dimer(), in_fragments(dimer())]
        single = [results_of(calc, atoms) for atoms in structures]
        for found, expected in zip(_together(calc, structures), single, strict=True):
            for key in ("energy", "les_energy", "forces", "charges"):
                assert_close(found[key], expected[key], self.rounding)


def _together(calc: Any, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
    """Results of structures that are computed at once."""
    return [dict(results) for results in calc.calculate_together(structures)]
