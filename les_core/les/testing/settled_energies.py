"""Tests: reference energies are fitted again when the last of several stages begins."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import read, write
from torch import Tensor

from les.backends import get_backend


class SettledEnergiesTests:
    """Tests of trainings of one stage and of two, of which the second begins after two epochs.

    They use ``train`` and ``arguments`` of the adapter's tests, and ``killed``, see
    :class:`les.testing.ChargeStartTests`. Adapters with other options and files than those of
    ``les.training.loop`` override the methods.
    """

    #: Where ``fit_atomic_energies`` is called.
    module: ModuleType
    #: Whether it is called before the first epoch, too.
    at_the_start = True
    #: The run is killed when this file is written for this time: two epochs are kept then.
    killed_at = ("small_history.json", 2)
    #: Whether such a run ends in ``SystemExit``, as Lightning has it.
    exits = False
    #: Whether it is so at the end of the third epoch, before which energies have been fitted.
    killed_late = False
    #: The file that it continues from.
    checkpoint: str
    #: The name of reference energies in it, which training leaves alone.
    reference_energies: str
    #: The file of a trained model, and the options of its learning rates.
    trained: str
    learning_rates: tuple[str, ...] = ("learning_rate",)

    @pytest.mark.parametrize("n_stages", [1, 2])
    def test_reference_energies_are_fitted_again(
        self,
        n_stages: int,
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
            done.append(self.epochs_done(tmp_path, *args))
            fit(*args, **options)

        monkeypatch.setattr(self.module, "fit_atomic_energies", counting)
        options = self.stages(arguments, tmp_path, n_stages)
        ending = pytest.raises(SystemExit) if self.exits else contextlib.nullcontext()
        with ending:
            assert killed(*self.killed_at, "--les", *options) == 130
        before = self.reference_energies_in(tmp_path)
        train("--les", *options, "--resume")
        again = 1 + self.killed_late if n_stages == 2 else 0
        assert done == [0] * self.at_the_start + [2] * again
        changed = not torch.equal(before, self.reference_energies_in(tmp_path))
        assert changed == (n_stages == 2)

    def test_energies_of_compositions(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """They are right on average by the second fit, and before the model learns anything."""
        fit, calls = self.module.fit_atomic_energies, []

        def second(*args: Any, **options: Any) -> None:
            calls.append(1)
            if len(calls) > self.at_the_start:
                fit(*args, **options)

        monkeypatch.setattr(self.module, "fit_atomic_energies", second)
        frames = read(data_files[0], ":")
        for frame in frames[::3]:
            del frame[-1]
        path = tmp_path / "compositions.xyz"
        write(path, frames, format="extxyz")
        options = self.stages(arguments, tmp_path, 2, train_file=path)
        train("--les", *options, *(f"--{name}=1e-14" for name in self.learning_rates))
        calculator = get_backend(backend_name).calculator(tmp_path / self.trained)
        deviations: dict[str, list[float]] = {}
        for frame in frames:
            deviation = frame.info["REF_energy"] - calculator.get_potential_energy(frame)
            deviations.setdefault(str(frame.symbols), []).append(deviation / len(frame))
        assert len(deviations) == 2
        for values in deviations.values():
            assert np.mean(values) == pytest.approx(0.0, abs=1e-5)
            assert np.std(values) > 1e-3

    def test_energies_are_kept(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """If that is asked for, at the start, too."""

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("energies are fitted")

        monkeypatch.setattr(self.module, "fit_atomic_energies", refuse)
        train("--les", *self.stages(arguments, tmp_path, 2), "--atomic_energies=keep")

    def stages(
        self, arguments: Callable[..., list[str]], folder: Path, n_stages: int, **changes: Any
    ) -> list[str]:
        """Options of three epochs in one stage, or in stages of two and one."""
        epochs = {1: [3], 2: [2, 1]}[n_stages]
        stages = [{"epochs": n, "energy": 1, "forces": 1} for n in epochs]
        return arguments(folder, stages=stages, epochs=None, **changes)

    def epochs_done(self, folder: Path, *_: Any) -> int:
        """How many there are when energies are fitted, with these arguments."""
        history = folder / "small_history.json"
        return history.read_text().count('"epoch"') if history.exists() else 0

    def reference_energies_in(self, folder: Path) -> Tensor:
        """Those of the file that the run continues from."""
        content: dict[str, Any] = torch.load(folder / self.checkpoint, weights_only=True)
        energies: Tensor = content["model"]["state_dict"][self.reference_energies]
        return energies
