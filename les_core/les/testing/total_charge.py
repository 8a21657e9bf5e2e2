"""Tests: charges sum to the total charge of a structure, of models that are made to keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.testing.adapter import CalculatorFactory, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    shear,
    stress_by_differences,
)
from les.testing.fragments import FragmentTests
from les.testing.structures import crystal, dimer, structures


def charged(atoms: Atoms, charge: float, name: str = "charge") -> Atoms:
    """A copy of ``atoms`` with a total charge [e], under one of its names."""
    ion = atoms.copy()
    ion.info[name] = charge
    return ion


class TotalChargeTests(FragmentTests):
    """Tests of an adapter whose fixtures give a model with ``neutrality`` ``"shift"``.

    The sign of its charges is ``"trained"``. Subclass it beside :class:`AdapterTests`, with the
    fixtures ``calculator`` and ``predict_batch`` of such a model.
    """

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    @pytest.mark.parametrize("charge", [None, 0, 1, -2.0])
    def test_charges_sum_to_the_total_charge(
        self, calculator: CalculatorFactory, name: str, charge: float | None
    ) -> None:
        atoms = structures()[name]
        if charge is not None:
            atoms = charged(atoms, charge)
        results = results_of(calculator(), atoms)
        assert results["charges"].sum() == pytest.approx(charge or 0.0, abs=1e-12)
        assert np.ptp(results["charges"]) > 1e-3
        # What is written belongs together.
        np.testing.assert_allclose(
            results["dipole"], results["charges"] @ atoms.positions, rtol=0, atol=1e-10
        )

    @pytest.mark.parametrize("name", ["charge", "total_charge"])
    def test_a_total_charge_has_an_effect(self, calculator: CalculatorFactory, name: str) -> None:
        """A total charge has an effect under both names, without a warning, if only it changes."""
        atoms = dimer()
        atoms.calc = calculator()
        neutral = atoms.get_potential_energy()
        atoms.info[name] = 0
        assert atoms.get_potential_energy() == pytest.approx(neutral, abs=1e-12)
        atoms.info[name] = np.int64(-1)
        assert abs(atoms.get_potential_energy() - neutral) > 1e-3
        assert atoms.get_charges().sum() == pytest.approx(-1.0, abs=1e-12)
        del atoms.info[name]
        assert atoms.get_potential_energy() == pytest.approx(neutral, abs=1e-12)

    @pytest.mark.parametrize("name", ["open", "triclinic", "slab"])
    def test_forces_of_an_ion(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = charged(structures()["triclinic" if name == "slab" else name], -1)
        if name == "slab":
            atoms.pbc = (True, True, False)
        forces = results_of(calc, atoms)["forces"]
        for atom, axis in ((0, 0), (4, 2)):
            expected = force_by_differences(calc, atoms, atom, axis)
            assert forces[atom, axis] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    def test_stress_of_a_charged_cell(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = charged(crystal("triclinic"), 1)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        for row, column in ((0, 0), (1, 2)):
            expected = stress_by_differences(calc, atoms, shear(row, column))
            assert stress[row, column] == pytest.approx(expected, rel=0, abs=self.stress_tolerance)

    @pytest.mark.parametrize("charge", [0, -1])
    def test_born_effective_charges_of_an_ion(
        self, calculator: CalculatorFactory, charge: float
    ) -> None:
        """Born effective charges are derivatives of the dipole, and sum to the total charge."""
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = charged(dimer(), charge)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), charge * np.eye(3), rtol=0, atol=1e-10)
        for atom, axis in ((0, 0), (4, 2)):
            expected = born_by_differences(calc, atoms, atom, axis)
            np.testing.assert_allclose(bec[atom, :, axis], expected, rtol=0, atol=1e-8)

    def test_a_batch_of_ions_is_each_alone(
        self,
        calculator: CalculatorFactory,
        predict_batch: Callable[[Sequence[Atoms]], dict[str, Any]],
    ) -> None:
        calc = calculator()
        batch = [
            charged(dimer(), 1),
            charged(crystal("triclinic"), -2),
            dimer()[:3],
            charged(crystal("cubic"), 0.5),
        ]
        single = [results_of(calc, atoms) for atoms in batch]
        together = predict_batch(batch)
        for key in ("energy", "les_energy"):
            assert_close(together[key], [results[key] for results in single], self.rounding)
        for key in ("forces", "charges"):
            expected = np.concatenate([results[key] for results in single])
            assert_close(together[key], expected, self.rounding)

    def test_the_order_of_atoms_does_not_matter(self, calculator: CalculatorFactory) -> None:
        atoms = charged(crystal("triclinic"), 1)
        order = [3, 0, 5, 1, 4, 2]
        turned = atoms[order]
        turned.info = dict(atoms.info)
        one, other = results_of(calculator(), atoms), results_of(calculator(), turned)
        assert_close(other["energy"], one["energy"], self.rounding)
        for key in ("forces", "charges"):
            assert_close(other[key], one[key][order], self.rounding)

    def test_energy_of_a_supercell(self, calculator: CalculatorFactory) -> None:
        """The energy of a supercell is that of its cells, because the mean charge is the same."""
        calc = calculator()
        one = results_of(calc, charged(crystal("triclinic"), 1))
        two = results_of(calc, charged(crystal("triclinic").repeat((2, 1, 1)), 2))
        for key in ("energy", "les_energy"):
            # The periodic sum has its end in another place.
            assert two[key] / 2 == pytest.approx(one[key], rel=0, abs=1e-6)
        np.testing.assert_allclose(two["charges"][:6], one["charges"], rtol=0, atol=1e-10)

    @pytest.mark.parametrize(
        ("info", "message"),
        [
            ({"charge": "plus one"}, "charge must be a number, .* got 'plus one'"),
            ({"total_charge": True}, "total_charge must be a number"),
            ({"charge": np.nan}, "charge must be finite, .* got nan"),
            ({"total_charge": -np.inf}, "total_charge must be finite, .* got -inf"),
            ({"charge": [1, 0]}, r"charge must be one number, .* got an array of shape \[2\]"),
            ({"charge": 1e6}, r"charge must be a total charge in e, got 1e\+06"),
            ({"charge": 1, "total_charge": 2}, "two names of the total charge, got 1 and 2"),
        ],
    )
    def test_bad_total_charges(
        self, calculator: CalculatorFactory, info: dict[str, Any], message: str
    ) -> None:
        calc = calculator()
        atoms = dimer()
        atoms.info.update(info)
        with pytest.raises(ValueError, match=message):
            calc.calculate(atoms)
        atoms.info.clear()
        calc.calculate(atoms)

    def test_a_fractional_total_charge_is_told(
        self, calculator: CalculatorFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        calc = calculator()
        with caplog.at_level(logging.WARNING, logger="les"):
            for _ in range(2):
                results = results_of(calc, charged(dimer(), 0.25))
        assert results["charges"].sum() == pytest.approx(0.25, abs=1e-12)
        assert caplog.text.count("a fractional total charge, 0.25 e, is taken as it is") == 1

    def test_a_total_charge_leaves_no_choice_of_the_sign(
        self, calculator: CalculatorFactory
    ) -> None:
        turned = calculator(sign=-1)
        turned.calculate(dimer())
        with pytest.raises(ValueError, match="would sum to -1 instead of the total charge 1"):
            turned.calculate(charged(dimer(), 1))
        assert results_of(calculator(sign=1), charged(dimer(), 1))["charges"].sum() > 0.0

    def test_no_other_dielectric_constant_for_ions(self, calculator: CalculatorFactory) -> None:
        calc = calculator(eps_inf=2.0)
        calc.calculate(dimer())
        with pytest.raises(ValueError, match="`eps_inf` must be 1, the `epsilon_factor`"):
            calc.calculate(charged(dimer(), 1))
