"""Tests: what has no meaningful result is refused, and the message says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from les.testing.adapter import Adapter, CalculatorFactory, model_of, results_of
from les.testing.structures import crystal, dimer


class BadInputTests(Adapter):
    """Structures, arguments and files that no calculator accepts."""

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_positions_that_are_not_finite(
        self, calculator: CalculatorFactory, value: float
    ) -> None:
        atoms = dimer()
        atoms.positions[2, 1] = value
        with pytest.raises(ValueError, match=r"positions must be finite.*atom 2"):
            calculator().calculate(atoms)

    @pytest.mark.parametrize("periodic", [False, True])
    def test_atoms_at_the_same_place(self, calculator: CalculatorFactory, periodic: bool) -> None:
        atoms = crystal() if periodic else dimer()
        atoms.positions[4] = atoms.positions[1] + periodic * atoms.cell[0]
        with pytest.raises(ValueError, match="atoms 1 and 4 are at the same place"):
            calculator().calculate(atoms)

    def test_one_periodic_axis(self, calculator: CalculatorFactory) -> None:
        atoms = crystal()
        atoms.pbc = [False, False, True]
        with pytest.raises(ValueError, match=r"pbc must have 0.* or 3 axes true, got \[False"):
            calculator().calculate(atoms)

    def test_periodic_without_a_cell(self, calculator: CalculatorFactory) -> None:
        atoms = dimer()
        atoms.pbc = True
        with pytest.raises(ValueError, match="needs a cell"):
            calculator().calculate(atoms)

    def test_no_atoms(self, calculator: CalculatorFactory) -> None:
        with pytest.raises(ValueError, match="must have atoms"):
            calculator().calculate(Atoms())

    def test_usable_after_a_refusal(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        bad = dimer()
        bad.positions[0, 0] = np.nan
        with pytest.raises(ValueError, match="finite"):
            calc.calculate(bad)
        good = dimer()
        good.calc = calc
        assert np.isfinite(good.get_potential_energy())

    def test_unknown_keyword(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        with pytest.raises(TypeError, match=r"unknown keyword `signs`; did you mean `sign`"):
            type(calc)(model_of(calc), signs=1)

    def test_several_models(self, calculator: CalculatorFactory) -> None:
        """Several models make a committee, and the signs of their charges agree."""
        calc, other = calculator(sign=1), calculator(sign=1, zero_charges=True)
        with pytest.raises(ValueError, match="at least two members, got 1"):
            type(calc)([model_of(calc)])
        with pytest.raises((OSError, ValueError), match=r"missing\.pt"):
            type(calc)(["missing.pt", "two.pt"])
        committee = type(calc)([model_of(calc), model_of(other)], sign=-1)
        found, first, second = (results_of(each, dimer()) for each in (committee, calc, other))
        assert np.abs(first["charges"]).max() > 1e-3
        for key, sign in {"energy": 1, "forces": 1, "charges": -1, "dipole": -1}.items():
            mean, spread = (first[key] + second[key]) / 2, np.abs(first[key] - second[key]) / 2
            np.testing.assert_allclose(found[key], sign * mean, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found[f"{key}_std"], spread, rtol=1e-6, atol=1e-6)

    def test_born_effective_charges_that_nobody_asked_for(
        self, calculator: CalculatorFactory
    ) -> None:
        atoms = dimer()
        atoms.calc = calculator()
        with pytest.raises(PropertyNotImplementedError, match="bec=True"):
            atoms.calc.get_property("born_effective_charges", atoms)

    def test_results_that_are_not_finite(self, calculator: CalculatorFactory) -> None:
        calc = calculator()
        with torch.no_grad():
            for parameter in model_of(calc).parameters():
                parameter.fill_(torch.nan)
        with pytest.raises(ValueError, match=r"NaN or infinite|must be finite"):
            calc.calculate(dimer())
        assert not any(np.isnan(value).any() for value in calc.results.values())

    @pytest.mark.parametrize("damage", ["truncated", "changed"])
    def test_damaged_file(self, reloaded_calculator: Any, tmp_path: Path, damage: str) -> None:
        path = max(filter(Path.is_file, tmp_path.rglob("*")), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        if damage == "truncated":
            del content[half:]
        else:
            content[half : half + 64] = bytes(255 - byte for byte in content[half : half + 64])
        path.write_bytes(content)
        load = getattr(type(reloaded_calculator), "from_file", type(reloaded_calculator))
        with pytest.raises(ValueError, match=f"{path.name}.*damaged"):
            load(str(path))
