"""Tests: a training that starts from a model whose charges have the other sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase.io import read, write

from les.training.backend import TrainingBackend


class OtherSignTests:
    """Tests of an adapter that trains with the tools of this package.

    They use the fixtures ``train``, ``arguments`` and ``data_files`` of ``ResponseTrainingTests``.
    """

    backend: ClassVar[TrainingBackend]
    #: Changes of the arguments of a run that starts from a model.
    changes: ClassVar[dict[str, Any]]
    #: The adapter, with ``load_model`` and ``save_model``.
    adapter: ClassVar[ModuleType]

    @pytest.fixture
    def negate(self) -> Callable[[Any], None]:
        """What changes the sign of the charges of a model."""
        raise NotImplementedError("define the fixture `negate`")

    def test_a_start_with_the_other_sign(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        data_files: tuple[Path, Path],
        negate: Callable[[Any], None],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is turned before the first step: from both signs the run is the same."""
        caplog.set_level("INFO", logger="les")
        frames: list[Any] = read(data_files[0], ":4")
        for atoms in frames:
            nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
            atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
        write(tmp_path / "bec.xyz", frames, format="extxyz")
        train("--les", *arguments(tmp_path / "start"))
        model = self.adapter.load_model(self.backend.files(tmp_path / "start", "small").model)
        files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "bec.xyz")
        histories, states = [], []
        for name in ("one", "other"):
            start = tmp_path / f"{name}{self.backend.suffix}"
            self.adapter.save_model(model, start)
            options = arguments(tmp_path / name, **files, bec_weight=10, **self.changes)
            train("--les", *options, f"--from={start}")
            left = self.backend.files(tmp_path / name, "small")
            history = json.loads(left.history.read_text())
            histories.append([{**record, "seconds": 0} for record in history])
            states.append(self.adapter.load_model(left.model).state_dict())
            negate(model)
        assert caplog.text.count("the sign of all charges was changed") >= 1
        assert histories[0] == histories[1]
        for key, value in states[0].items():
            torch.testing.assert_close(states[1][key], value, rtol=0, atol=0)
