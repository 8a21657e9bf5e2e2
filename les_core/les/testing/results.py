"""Tests: what a calculator reports, in which precision, and that files keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from les.config import LESConfig
from les.ewald import Ewald
from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.structures import structures

STRUCTURES = ("open", "triclinic", "left-handed")


class ResultTests(Adapter):
    """Results of calculators, and their files."""

    @pytest.mark.parametrize("name", STRUCTURES)
    def test_keys_shapes_and_sums(self, calculator: CalculatorFactory, name: str) -> None:
        atoms = structures()[name]
        results = results_of(calculator(), atoms)
        assert isinstance(results["energy"], float)
        assert isinstance(results["les_energy"], float)
        assert results["forces"].shape == (len(atoms), 3)
        assert results["charges"].shape == (len(atoms),)
        assert results["dipole"].shape == (3,)
        assert ("stress" in results) == atoms.pbc.all()
        assert "born_effective_charges" not in results
        assert results["energies"].sum() == pytest.approx(results["energy"], rel=self.rounding)
        assert abs(results["les_energy"]) > 1e-3 * len(atoms)

    def test_configuration(self, calculator: CalculatorFactory, ewald: Ewald) -> None:
        config = calculator().les_config
        assert isinstance(config, LESConfig)
        assert config.sigma == ewald.sigma

    def test_get_methods_of_ase(self, calculator: CalculatorFactory) -> None:
        atoms = structures()["triclinic"]
        atoms.calc = calculator(bec=True)
        results = results_of(calculator(bec=True), atoms)
        assert atoms.get_potential_energy() == results["energy"]
        np.testing.assert_array_equal(atoms.get_potential_energies(), results["energies"])
        np.testing.assert_array_equal(atoms.get_forces(), results["forces"])
        np.testing.assert_array_equal(atoms.get_stress(), results["stress"])
        np.testing.assert_array_equal(atoms.get_charges(), results["charges"])
        np.testing.assert_array_equal(atoms.get_dipole_moment(), results["dipole"])
        for key in ("les_energy", "born_effective_charges"):
            np.testing.assert_array_equal(atoms.calc.get_property(key), results[key])

    @pytest.mark.parametrize("name", STRUCTURES)
    def test_les_energy_is_that_of_the_charges(
        self, calculator: CalculatorFactory, ewald: Ewald, name: str
    ) -> None:
        atoms = structures()[name]
        results = results_of(calculator(), atoms)
        energy, _ = ewald(
            torch.tensor(results["charges"], dtype=torch.float64),
            torch.tensor(atoms.positions),
            torch.tensor(atoms.cell[:])[None],
            pbc=torch.tensor(atoms.pbc)[None],
        )
        assert results["les_energy"] == pytest.approx(energy.item(), rel=self.rounding)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_dipole_is_that_of_the_charges_less_their_mean(
        self, calculator: CalculatorFactory, name: str
    ) -> None:
        """The dipole of a neutral structure does not depend on the origin."""
        atoms = structures()[name]
        calc = calculator()
        results = results_of(calc, atoms)
        charges = results["charges"]
        expected = (charges - charges.mean()) @ atoms.positions
        np.testing.assert_allclose(results["dipole"], expected, rtol=0, atol=1e-9)
        atoms.positions += [1.7, -0.4, 2.2]
        moved = results_of(calc, atoms)
        np.testing.assert_allclose(moved["charges"], charges, rtol=0, atol=1e-9)
        np.testing.assert_allclose(moved["dipole"], results["dipole"], rtol=0, atol=1e-9)

    def test_quadrupole_of_a_molecule(self, calculator: CalculatorFactory) -> None:
        atoms = structures()["open"]
        results = results_of(calculator(), atoms)
        charges = results["charges"] - results["charges"].mean()
        arms = atoms.positions - atoms.positions.mean(axis=0)
        expected = np.einsum("i,ia,ib->ab", charges, arms, arms)
        np.testing.assert_allclose(results["quadrupole"], expected, rtol=0, atol=1e-8)
        crystal = structures()["triclinic"]
        assert "quadrupole" not in results_of(calculator(), crystal)

    def test_acoustic_sum_and_dielectric_constant(self, calculator: CalculatorFactory) -> None:
        """All calculators accept these options, which change no other results."""
        atoms = structures()["triclinic"]
        kept = results_of(calculator(bec=True), atoms)
        spread = results_of(calculator(bec=True, acoustic_sum="spread"), atoms)
        name = "born_effective_charges"
        expected = kept[name] - kept[name].mean(axis=0)
        np.testing.assert_allclose(spread[name], expected, rtol=0, atol=1e-8)
        scaled = results_of(calculator(eps_inf=4.0), atoms)
        np.testing.assert_allclose(scaled["charges"], 2.0 * kept["charges"], rtol=1e-10)
        np.testing.assert_allclose(scaled["forces"], kept["forces"], rtol=0, atol=1e-10)

    @pytest.mark.parametrize("name", ["latent_charges", "born_effective_charges"])
    def test_results_that_are_not_there(self, calculator: CalculatorFactory, name: str) -> None:
        """Missing results raise an error whose message says what to do."""
        hint = {"latent_charges": "see charges", "born_effective_charges": "bec=True"}[name]
        with pytest.raises(PropertyNotImplementedError, match=hint):
            calculator().get_property(name, structures()["open"])

    def test_oxygen_is_negative(self, calculator: CalculatorFactory) -> None:
        atoms = structures()["open"]
        charges = results_of(calculator(), atoms)["charges"]
        assert charges[atoms.numbers == 8].mean() < charges[atoms.numbers == 1].mean()

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_single_precision(self, calculator: CalculatorFactory, name: str) -> None:
        atoms = structures()[name]
        single = results_of(calculator(dtype="float32"), atoms)
        double = results_of(calculator(dtype="float64"), atoms)
        assert single["forces"].dtype == self.single_dtype
        assert double["forces"].dtype == np.float64
        assert single["energy"] == pytest.approx(
            double["energy"], abs=self.single_precision * len(atoms)
        )
        for key in ("forces", "charges", "dipole"):
            np.testing.assert_allclose(single[key], double[key], rtol=0, atol=self.single_precision)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    @pytest.mark.parametrize("suffix", ["xyz", "traj"])
    def test_files_keep_results(
        self, calculator: CalculatorFactory, tmp_path: Path, suffix: str, name: str
    ) -> None:
        atoms = structures()[name]
        atoms.calc = calculator(bec=True)
        atoms.get_potential_energy()
        path = tmp_path / f"structure.{suffix}"
        write(path, [atoms, atoms])
        for kept in read(path, ":"):
            keys = ["energy", "energies", "forces", "charges", "dipole"]
            keys.append("born_effective_charges")
            for key in keys + ["stress"] * bool(atoms.pbc.all()):
                np.testing.assert_allclose(
                    kept.calc.results[key], atoms.calc.results[key], atol=1e-7, err_msg=key
                )

    def test_input_is_left_alone(self, calculator: CalculatorFactory) -> None:
        for atoms in structures().values():
            before = atoms.copy()
            calculator(bec=True).calculate(atoms)
            assert atoms == before
            assert atoms.info == before.info
            assert atoms.arrays.keys() == before.arrays.keys()

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_labels_are_no_input(self, calculator: CalculatorFactory, name: str) -> None:
        """Labels of a structure do not affect results, whatever their names mean to upstream."""
        atoms = structures()[name]
        expected = results_of(calculator(bec=True), atoms)
        atoms.info.update(dipole=np.ones(3), quadrupole=np.eye(3), energy=1.0, stress=np.ones(6))
        atoms.arrays["charges"] = np.ones((len(atoms), 1))
        atoms.arrays["bec"] = np.ones((len(atoms), 9))
        atoms.calc = SinglePointCalculator(
            atoms, energy=2.0, forces=np.ones((len(atoms), 3)), dipole=np.ones(3)
        )
        actual = results_of(calculator(bec=True), atoms)
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(actual[key], value, 1e-12)

    def test_repeated_use(self, calculator: CalculatorFactory) -> None:
        """One calculator for many structures gives the same results as new calculators."""
        shared = calculator()
        for name in ("open", "triclinic", "cubic", "open"):
            expected = results_of(calculator(), structures()[name])
            actual = results_of(shared, structures()[name])
            assert actual.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(actual[key], value, err_msg=key)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_saved_and_loaded(
        self, calculator: CalculatorFactory, reloaded_calculator: Any, name: str
    ) -> None:
        atoms = structures()[name]
        expected = results_of(calculator(), atoms)
        actual = results_of(reloaded_calculator, atoms)
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(actual[key], value, 1e-12)
