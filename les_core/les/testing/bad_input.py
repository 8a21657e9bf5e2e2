"""Tests: structures without a meaningful result are refused, and the message says why."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.testing.adapter import Adapter, CalculatorFactory
from les.testing.structures import crystal, dimer


class BadInputTests(Adapter):
    """What no calculator accepts."""

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
