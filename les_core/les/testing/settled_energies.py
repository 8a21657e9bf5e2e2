"""Tests: reference energies are fitted again when the last of several stages begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


class SettledEnergiesTests:
    """Tests of trainings of several stages.

    They use ``train`` and ``arguments`` of the adapter's tests, and ``killed``, see
    :class:`les.testing.ChargeStartTests`.
    """

    #: Where ``fit_atomic_energies`` is called.
    module: ModuleType
    #: The learning curve of a run.
    history = "small_history.json"
    #: The file that a run continues from, and the name of reference energies in it, which training
    #: leaves alone.
    checkpoint: str
    reference_energies: str

    @pytest.mark.parametrize(
        ("stages", "fits"), [((3,), [0]), ((2, 1), [0, 2]), ((1, 1, 1), [0, 2])], ids=str
    )
    def test_reference_energies_are_fitted_again(
        self,
        stages: tuple[int, ...],
        fits: list[int],
        train: Callable[..., None],
        killed: Callable[..., int],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """At the start, and before the last stage, also where a killed run continues there."""
        done: list[int] = []
        fit = self.module.fit_atomic_energies

        def counting(*args: Any, **options: Any) -> None:
            history = tmp_path / self.history
            done.append(history.read_text().count('"epoch"') if history.exists() else 0)
            fit(*args, **options)

        monkeypatch.setattr(self.module, "fit_atomic_energies", counting)
        weights = [{"epochs": n, "energy": 1, "forces": 1} for n in stages]
        options = arguments(tmp_path, stages=weights, epochs=None)
        assert killed(self.history, 2, "--les", *options) == 130
        before = self._reference_energies(tmp_path)
        train("--les", *options, "--resume")
        assert done == fits
        changed = not torch.equal(before, self._reference_energies(tmp_path))
        assert changed == (len(fits) > 1)

    def _reference_energies(self, folder: Path) -> torch.Tensor:
        content: dict[str, Any] = torch.load(folder / self.checkpoint, weights_only=True)
        return content["model"]["state_dict"][self.reference_energies]
