"""Tests: neighbours that are kept from step to step give what a search in every step gives."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from les.testing.adapter import Adapter, CalculatorFactory, assert_close, model_of, results_of
from les.testing.structures import crystal, dimer, strained, structures

STRUCTURES = ("open", "cubic", "triclinic", "left-handed")
#: Steps of a trajectory, and how far an atom goes in one, in each direction at most [A].
N_STEPS, STEP = 40, 0.03


class NeighbourTests(Adapter):
    """The option ``skin`` of calculators."""

    @pytest.mark.parametrize("name", STRUCTURES)
    def test_trajectory(self, calculator: CalculatorFactory, name: str) -> None:
        """With atoms that are wrapped on the way."""
        kept, fresh = calculator(), calculator(skin=0.0)
        for atoms in trajectory(structures()[name]):
            assert_same_results(kept, fresh, atoms)
        assert fresh.neighbours.n_searches == N_STEPS
        assert 2 <= kept.neighbours.n_searches <= N_STEPS / 4

    def test_changing_cell(self, calculator: CalculatorFactory) -> None:
        """Volume and shape, as in dynamics under pressure, and far beyond the skin."""
        kept, fresh = calculator(), calculator(skin=0.0)
        growth = np.array([[3e-3, 1e-3, 0.0], [0.0, 2e-3, -2e-3], [1e-3, 0.0, 4e-3]])
        for sign in (1, -1):
            for number, atoms in enumerate(trajectory(crystal("triclinic"))):
                assert_same_results(kept, fresh, strained(atoms, sign * number * growth))
        assert fresh.neighbours.n_searches == 2 * N_STEPS
        assert 4 <= kept.neighbours.n_searches <= N_STEPS / 2

    def test_other_structures_in_turn(self, calculator: CalculatorFactory) -> None:
        """One calculator, with species, atoms, axes and cells that change."""
        kept, fresh = calculator(), calculator(skin=0.0)
        atoms = crystal("cubic")
        jumped = atoms.copy()
        jumped.positions[1] += [2, -1, 0] @ atoms.cell[:]
        moved = atoms.copy()
        moved.positions[4] += [0.4, -0.3, 0.2]
        swapped = atoms.copy()
        swapped.numbers = atoms.numbers[::-1]
        for other in (jumped, moved, swapped, atoms[[0, 1, 2]], dimer(), crystal("triclinic")):
            for each in (atoms, atoms, other):
                assert_same_results(kept, fresh, each)

    def test_one_step_at_a_time(self, calculator: CalculatorFactory) -> None:
        """A structure that is not near the one before is not searched beyond the cutoff."""
        calc = calculator()
        for atoms in structures().values():
            calc.calculate(atoms)
            calc.calculate(atoms)
        assert calc.neighbours.n_searches == len(structures())

    def test_copies(self, calculator: CalculatorFactory) -> None:
        """They keep neighbours of their own from then on."""
        kept, fresh = calculator(), calculator(skin=0.0)
        first, *rest = trajectory(crystal("cubic"))
        kept.calculate(first)
        other = copy.deepcopy(kept)
        for atoms in rest:
            assert_same_results(other, fresh, atoms)
        assert kept.neighbours.n_searches == 1
        assert other.neighbours.n_searches > 1

    def test_committee(self, calculator: CalculatorFactory) -> None:
        one = calculator()
        models = [model_of(one), model_of(calculator())]
        kept, fresh = type(one)(models), type(one)(models, skin=0.0)
        for atoms in trajectory(crystal("triclinic")):
            assert_same_results(kept, fresh, atoms)
        for member, other in zip(kept.members, fresh.members, strict=True):
            assert member.neighbours.n_searches <= N_STEPS / 4
            assert other.neighbours.n_searches == N_STEPS

    @pytest.mark.parametrize("skin", [-0.1, 11.0, np.nan, np.inf, "1", True, None])
    def test_bad_skin(self, calculator: CalculatorFactory, skin: Any) -> None:
        with pytest.raises(ValueError, match=r"`skin` must be a number from 0 to 10 A, got"):
            calculator(skin=skin)


def trajectory(atoms: Atoms) -> Iterator[Atoms]:
    """Structures one small step from each other, of which every fifth is wrapped."""
    rng = np.random.default_rng(0)
    atoms = atoms.copy()
    drift = rng.uniform(-STEP, STEP, (len(atoms), 3))
    for number in range(N_STEPS):
        yield atoms.copy()
        # Back and forth, so that no atoms meet; all of them drift through the cell.
        atoms.positions += drift * (-1) ** (number // 10) + [0.02, 0.02, -0.03]
        if number % 5 == 4:
            atoms.wrap()


def assert_same_results(kept: Any, fresh: Any, atoms: Atoms) -> None:
    """Two calculators have the same results."""
    found, expected = results_of(kept, atoms), results_of(fresh, atoms)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert_close(found[key], value, 1e-12)
