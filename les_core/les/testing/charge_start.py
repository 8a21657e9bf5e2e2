"""Tests: charges that a training from scratch starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from les.electronegativity import charges_of_electronegativity

ELEMENTS = [1, 8]


class ChargeStartTests:
    """Tests of trainings that start charges from electronegativities.

    They use these fixtures of the adapter's tests: ``train(*arguments)`` and
    ``arguments(folder, **changes)``, a run of ``les train``; ``killed(file, n, *arguments)``, one
    that is killed when ``file`` is written for the ``n``-th time; ``data_files``, of H and O.
    """

    #: The file that a run continues from.
    checkpoint: str
    #: The file of a trained model.
    trained: str
    #: Options that describe a new model, and exclude ``--from``.
    of_the_model: tuple[str, ...] = ("model", "readout")
    #: Rows of hydrogen and oxygen among the charges of elements.
    rows: tuple[int, int] = (0, 1)

    def test_charges_of_elements_are_held_at_first(
        self,
        train: Callable[..., None],
        killed: Callable[..., int],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """In one epoch of seven; then they are trained."""
        options = arguments(tmp_path, epochs=7)
        assert killed(self.checkpoint, 2, "--les", *options) == 130
        expected = charges_of_electronegativity(ELEMENTS)
        torch.testing.assert_close(self._charges(tmp_path), expected)
        train("--les", *options, "--resume")
        assert (self._charges(tmp_path) - expected).abs().min() > 1e-4

    @pytest.mark.parametrize("settings", ["{neutrality: none}", "{charge_equilibration: true}"])
    def test_charges_that_start_at_zero(
        self,
        settings: str,
        killed: Callable[..., int],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """Where the charges of elements would not be those of atoms. They are trained at once."""
        options = arguments(tmp_path, epochs=7, les_arguments=settings)
        assert killed(self.checkpoint, 2, "--les", *options) == 130
        assert (self._charges(tmp_path).abs() > 0).all()
        assert (self._charges(tmp_path).abs() < 0.3).all()

    def test_charges_that_are_added_to_a_trained_model(
        self,
        train: Callable[..., None],
        killed: Callable[..., int],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """They start near zero: the short-range part has learned all interactions."""
        train("--no-les", *arguments(tmp_path / "short", epochs=1))
        start = tmp_path / "short" / self.trained
        options = arguments(tmp_path / "long", epochs=7, **dict.fromkeys(self.of_the_model))
        command = ["--les", f"--from={start}", *options]
        assert killed(self.checkpoint, 2, *command) == 130
        assert (self._charges(tmp_path / "long").abs() < 0.3).all()

    def _charges(self, folder: Path) -> Tensor:
        content: dict[str, Any] = torch.load(folder / self.checkpoint, weights_only=True)
        weights = content["model"]["state_dict"]
        (name,) = (name for name in weights if name.endswith("of_elements.charges"))
        return weights[name][list(self.rows), 0].float()
