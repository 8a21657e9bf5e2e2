"""Tests: charges that are added to a trained short-range model, first or at their own rate."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase.io import read

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.training_log import LoggedTraining, best_model, logged


class ChargesFirstTests(LoggedTraining):
    """Tests of ``--from`` a short-range model with options that say how charges are trained.

    They use fixtures of the adapter's tests: those of ``LoggedTraining``, and
    ``usage_error(*arguments)``, the message of what must fail.
    """

    #: Options that describe a new model, and exclude ``--from``.
    of_the_model: ClassVar[tuple[str, ...]] = ("model", "readout")
    #: Largest difference of short-range energies and forces, which are in single precision.
    rounding: ClassVar[float] = 2e-4

    @pytest.fixture(scope="class")
    @classmethod
    def start(
        cls,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> str:
        """A short-range model, which is trained once for all tests."""
        with logged() as log:
            train("--no-les", *arguments(tmp_path_factory.mktemp("short")))
        return best_model(log)

    @pytest.mark.parametrize("fixed", [True, False])
    def test_charges_of_a_short_range_model(
        self,
        fixed: bool,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
        start: str,
    ) -> None:
        """Without the energy of charges, the model is the frozen short-range model.

        Structures of the same elements are compared, because energies of the elements are fitted.
        """
        options = self._options(arguments(tmp_path / "long"), start)
        train("--les", *options, *["--freeze_short_range_epochs=99"] * fixed)
        short, long = self._results(backend_name, data_files, [start, best_model(log)])
        assert all(np.abs(each["charges"]).max() > 1e-5 for each in long)
        before = short[1]["energy"] - short[0]["energy"]
        after = np.diff([each["energy"] - each["les_energy"] for each in long])[0]
        assert (abs(after - before) < self.rounding) == fixed

    def test_learning_rate_of_the_charges(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
        start: str,
    ) -> None:
        """The learning rate of the charges changes the training of the charges only."""
        models = []
        for rate in ("1e-14", "1e-13", "1e-2"):
            options = self._options(arguments(tmp_path / rate), start)
            train("--les", *options, f"--charge_learning_rate={rate}")
            models.append(best_model(log))
        results = self._results(backend_name, data_files, models)
        rests = [np.diff([x["energy"] - x["les_energy"] for x in each])[0] for each in results]
        charges = [each[0]["charges"] for each in results]
        size = np.abs(charges[0]).max()
        assert np.abs(charges[1] - charges[0]).max() < 1e-3 * size
        assert np.abs(charges[2] - charges[0]).max() > 3e-2 * size
        (short,) = self._results(backend_name, data_files, [start])
        before = short[1]["energy"] - short[0]["energy"]
        assert all(abs(rest - before) > self.rounding for rest in rests)

    def _options(self, options: list[str], start: str) -> list[str]:
        """Those of a run that begins with the model in ``start``."""
        excluded = tuple(f"--{name}=" for name in self.of_the_model)
        return [f"--from={start}", *(text for text in options if not text.startswith(excluded))]

    def _results(
        self, backend_name: str, data_files: tuple[Path, Path], models: list[str]
    ) -> list[list[dict[str, Any]]]:
        """Results of each model for two structures of the same elements."""
        calculators = [get_backend(backend_name).calculator(path) for path in models]
        structures: Any = read(data_files[1], "::2")
        return [[results_of(each, atoms) for atoms in structures] for each in calculators]

    @pytest.mark.parametrize(("flag", "n"), [("--no-les", "1"), ("--les", "0"), ("--les", "few")])
    def test_without_charges_or_epochs(
        self,
        flag: str,
        n: str,
        usage_error: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        error = usage_error(flag, *arguments(tmp_path), f"--freeze_short_range_epochs={n}")
        assert "--freeze_short_range_epochs" in error
