"""Tests: structures evaluated together give what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from les.predict.output import ARRAY_KEYS, INFO_KEYS
from les.testing.adapter import Adapter, CalculatorFactory, assert_close, results_of
from les.testing.structures import structures

BatchFunction = Callable[[Sequence[Atoms]], dict[str, Any]]


class BatchTests(Adapter):
    """Batches through the adapter's own batch function."""

    @pytest.mark.parametrize(
        "names",
        [
            ("open", "open"),
            ("cubic", "triclinic", "left-handed"),
            ("open", "triclinic", "open", "cubic"),
        ],
        ids=["open", "periodic", "mixed"],
    )
    def test_batch_is_single(
        self,
        calculator: CalculatorFactory,
        predict_batch: BatchFunction,
        names: tuple[str, ...],
    ) -> None:
        calc = calculator()
        batch = [structures()[name] for name in names]
        batch[1] = batch[1][:3]  # structures of different size
        batch[0].rattle(0.05, seed=1)
        single = [results_of(calc, atoms) for atoms in batch]
        together = predict_batch(batch)
        for key in ("energy", "les_energy"):
            assert_close(together[key], [results[key] for results in single], self.rounding)
        for key in ("forces", "charges"):
            expected = np.concatenate([results[key] for results in single])
            # The common sign of the charges is a matter of convention.
            actual = np.asarray(together[key])
            if key == "charges":
                actual, expected = np.abs(actual), np.abs(expected)
            assert_close(actual, expected, self.rounding)

    def test_neighbours_in_the_batch_do_not_interact(self, predict_batch: BatchFunction) -> None:
        first, other = structures()["open"], structures()["triclinic"]
        moved = other.copy()
        moved.rattle(0.1, seed=2)
        n_atoms = len(first)
        with_other, with_moved = predict_batch([first, other]), predict_batch([first, moved])
        assert_close(with_moved["energy"][0], with_other["energy"][0], self.rounding)
        assert_close(with_moved["forces"][:n_atoms], with_other["forces"][:n_atoms], self.rounding)
        assert abs(with_moved["energy"][1] - with_other["energy"][1]) > 1e-4

    @pytest.mark.parametrize("bec", [False, True])
    def test_structures_evaluated_together(self, calculator: CalculatorFactory, bec: bool) -> None:
        """The calculator's own batches give all results of each structure alone."""
        known = structures()
        several = [known[name] for name in ("open", "triclinic", "open", "cubic")]
        several[0].rattle(0.05, seed=1)
        several[2] = several[2][:3]
        single = calculator(bec=bec)
        expected = [results_of(single, atoms) for atoms in several]
        together = calculator(bec=bec)
        found = list(together.calculate_together(several))
        for actual, wanted in zip(found, expected, strict=True):
            # Upstream's calculator may have results that are its own.
            common = {*INFO_KEYS, *ARRAY_KEYS, "free_energy"} & wanted.keys()
            assert common <= actual.keys() <= wanted.keys()
            for key in common:
                assert np.shape(actual[key]) == np.shape(wanted[key]), key
                assert_close(actual[key], wanted[key], self.rounding)
        assert_close(together.results["energy"], expected[-1]["energy"], self.rounding)
        assert together.atoms == several[-1]
