"""Tests: the total charge and the spin of a structure are a part of the features of its atoms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.charge_states import ChargeStateEmbedding
from les.testing.adapter import Adapter, CalculatorFactory, assert_close, model_of, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    shear,
    stress_by_differences,
)
from les.testing.structures import crystal, dimer, structures

#: Settings of the model of :class:`ChargeStateTests`.
EMBEDDED: dict[str, Any] = {
    "neutrality": "shift",
    "sign": "trained",
    "embed_total_charge": True,
    "embed_spin": True,
}


def in_state(atoms: Atoms, charge: float = 0, spin: float = 1) -> Atoms:
    """A copy of ``atoms`` with a total charge [e] and a spin multiplicity."""
    ion = atoms.copy()
    ion.info.update(charge=charge, spin=spin)
    return ion


def draw_embeddings(model: Any, scale: float = 0.5) -> None:
    """Give the embeddings of a model, which have no effect at the start, random weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        for module in model.modules():
            if isinstance(module, ChargeStateEmbedding):
                module.output.weight.normal_(std=scale)


class ChargeStateTests(Adapter):
    """Tests of an adapter whose fixtures give a model with the settings :data:`EMBEDDED`.

    Its embeddings are drawn by :func:`draw_embeddings`. The fixtures are ``calculator``,
    ``predict_batch`` and ``reloaded_calculator``.
    """

    def test_neutral_singlets_are_as_without(self, calculator: CalculatorFactory) -> None:
        """The embedding changes no neutral singlet, and no state before it has been trained."""
        calc, untrained = calculator(), calculator()
        draw_embeddings(model_of(untrained), 0.0)
        for atoms in (dimer(), crystal("triclinic")):
            expected = results_of(untrained, in_state(atoms))
            actual = results_of(calc, in_state(atoms))
            for key in ("energy", "forces", "charges"):
                np.testing.assert_array_equal(actual[key], expected[key])
            first, second = (
                results_of(untrained, in_state(atoms, charge, spin))
                for charge, spin in ((1, 2), (1, 4))
            )
            assert first["energy"] == second["energy"]
            short_range = expected["energy"] - expected["les_energy"]
            assert first["energy"] - first["les_energy"] == pytest.approx(short_range, abs=1e-9)

    @pytest.mark.parametrize("state", [{"charge": 1}, {"charge": -1}, {"spin": 3}])
    def test_the_short_range_part_depends_on_the_state(
        self, calculator: CalculatorFactory, state: dict[str, float]
    ) -> None:
        """The short-range energy of every fragment depends on the state, at any distance."""
        calc = calculator()
        molecule = dimer()[:3]
        far = molecule.copy()
        far.positions += [40.0, 0.0, 0.0]

        def short_range(atoms: Atoms) -> float:
            results = results_of(calc, atoms)
            return float(results["energy"] - results["les_energy"])

        alone = short_range(in_state(molecule, **state))
        assert abs(alone - short_range(in_state(molecule))) > 1e-3
        both = short_range(in_state(molecule + far, **state))
        assert both == pytest.approx(2.0 * alone, rel=0, abs=1e-7)
        forces = results_of(calc, in_state(molecule + far, **state))["forces"]
        neutral = results_of(calc, in_state(molecule + far))["forces"]
        assert np.abs(forces - neutral)[:3].max() > 1e-4
        assert np.abs(forces - neutral)[3:].max() > 1e-4

    def test_states_are_told_apart(self, calculator: CalculatorFactory) -> None:
        """A change of the state alone changes results; the effect of charge and spin is smooth."""
        atoms = in_state(dimer())
        atoms.calc = calculator()
        energies: dict[tuple[int, int], list[float]] = {}
        for state in ((0, 1), (1, 1), (-1, 1), (0, 3), (1, 2), (0, 1)):
            atoms.info.update(charge=state[0], spin=state[1])
            energies.setdefault(state, []).append(atoms.get_potential_energy())
        assert energies[0, 1][0] == pytest.approx(energies[0, 1][1], abs=1e-12)
        values = sorted(each[0] for each in energies.values())
        assert np.diff(values).min() > 1e-4
        atoms.info.update(charge=1e-5, spin=1)
        assert atoms.get_potential_energy() == pytest.approx(energies[0, 1][0], abs=1e-3)

    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_forces_of_an_ion(self, calculator: CalculatorFactory, name: str) -> None:
        calc = calculator()
        atoms = in_state(structures()[name], -1, 2)
        forces = results_of(calc, atoms)["forces"]
        for atom, axis in ((0, 0), (4, 2)):
            expected = force_by_differences(calc, atoms, atom, axis)
            assert forces[atom, axis] == pytest.approx(expected, rel=0, abs=self.force_tolerance)

    def test_stress_of_a_charged_cell(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        atoms = in_state(crystal("triclinic"), 1, 2)
        stress = voigt_6_to_full_3x3_stress(results_of(calc, atoms)["stress"])
        expected = stress_by_differences(calc, atoms, shear(1, 2))
        assert stress[1, 2] == pytest.approx(expected, rel=0, abs=self.stress_tolerance)

    def test_born_effective_charges_of_an_ion(self, calculator: CalculatorFactory) -> None:
        calc, with_bec = calculator(), calculator(bec=True)
        atoms = in_state(dimer(), -1, 2)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(bec.sum(axis=0), -np.eye(3), rtol=0, atol=1e-10)
        expected = born_by_differences(calc, atoms, 4, 2)
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=1e-8)

    def test_a_batch_of_states_is_each_alone(
        self,
        calculator: CalculatorFactory,
        predict_batch: Callable[[Sequence[Atoms]], dict[str, Any]],
    ) -> None:
        calc = calculator()
        batch = [
            in_state(dimer(), 1, 2),
            in_state(crystal("triclinic"), -2),
            in_state(dimer()[:3], 0, 3),
            in_state(crystal("cubic"), 0.5),
        ]
        single = [results_of(calc, atoms) for atoms in batch]
        together = predict_batch(batch)
        for key in ("energy", "les_energy"):
            assert_close(together[key], [results[key] for results in single], self.rounding)
        for key in ("forces", "charges"):
            expected = np.concatenate([results[key] for results in single])
            assert_close(together[key], expected, self.rounding)

    def test_saved_and_loaded(
        self, calculator: CalculatorFactory, reloaded_calculator: Any
    ) -> None:
        assert set(reloaded_calculator.embedded) == {"total_charge", "spin"}
        atoms = in_state(dimer(), 1, 2)
        expected, actual = results_of(calculator(), atoms), results_of(reloaded_calculator, atoms)
        for key in ("energy", "forces", "charges"):
            np.testing.assert_allclose(actual[key], expected[key], rtol=0, atol=1e-9)

    @pytest.mark.parametrize(
        ("info", "message"),
        [
            ({"spin": 1}, "has no total charge .looked for charge or total_charge.*charge=0"),
            ({"charge": 0}, "has no spin .looked for spin or total_spin.*spin=1 for a singlet"),
            ({"charge": 0, "spin": 0}, "spin must be a multiplicity 2 S . 1 of at least 1, got 0"),
            ({"charge": 0, "spin": "up"}, "spin must be a number, .* got 'up'"),
            ({"charge": 0, "spin": np.nan}, "spin must be finite, .* got nan"),
            ({"charge": 0, "spin": 1, "total_spin": 2}, "spin and total_spin are two names"),
            ({"charge": "minus", "spin": 1}, "charge must be a number, .* got 'minus'"),
        ],
    )
    def test_bad_states(
        self, calculator: CalculatorFactory, info: dict[str, Any], message: str
    ) -> None:
        calc = calculator()
        atoms = dimer()
        atoms.info.update(info)
        with pytest.raises(ValueError, match=message):
            calc.calculate(atoms)
        calc.calculate(in_state(dimer()))

    def test_a_fractional_total_charge_is_told(
        self, calculator: CalculatorFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="les"):
            results = results_of(calculator(), in_state(dimer(), 0.25))
        assert results["charges"].sum() == pytest.approx(0.25, abs=1e-12)
        assert "a fractional total charge, 0.25 e, is taken as it is" in caplog.text
