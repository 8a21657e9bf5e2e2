"""Tests: charges that are added to a trained short-range model, and trained first."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase.io import read

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.training_log import LoggedTraining


class ChargesFirstTests(LoggedTraining):
    """Tests of ``--from`` a short-range model with ``--freeze_short_range_epochs``.

    They use fixtures of the adapter's tests: those of ``LoggedTraining``, and
    ``usage_error(*arguments)``, the message of what must fail.
    """

    #: Options that describe a new model, and exclude ``--from``.
    of_the_model: ClassVar[tuple[str, ...]] = ("model", "readout")
    #: Largest difference of short-range energies and forces, which are in single precision.
    rounding: ClassVar[float] = 2e-4

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
    ) -> None:
        """What is left without the energy of charges is the short-range model, if that is fixed.

        Structures of the same elements are compared, for energies of the elements are fitted.
        """
        train("--no-les", *arguments(tmp_path / "short"))
        options = [
            text
            for text in arguments(tmp_path / "long")
            if not text.startswith(tuple(f"--{name}=" for name in self.of_the_model))
        ]
        start = self._model(log)
        if fixed:
            options.append("--freeze_short_range_epochs=99")
        train("--les", f"--from={start}", *options)
        backend = get_backend(backend_name)
        calculators = [backend.calculator(path) for path in (start, self._model(log))]
        one, other = read(data_files[1], "::2")
        short = [results_of(calculators[0], atoms) for atoms in (one, other)]
        long = [results_of(calculators[1], atoms) for atoms in (one, other)]
        assert all(np.abs(each["charges"]).max() > 1e-5 for each in long)
        before = short[1]["energy"] - short[0]["energy"]
        after = np.diff([each["energy"] - each["les_energy"] for each in long])[0]
        assert (abs(after - before) < self.rounding) == fixed

    def _model(self, log: io.StringIO) -> str:
        return str(re.findall("best model: ([^\n]*)\n", log.getvalue())[-1])

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
