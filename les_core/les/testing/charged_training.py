"""Tests: training on structures with a total charge, of models whose charges sum to it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase.io import read, write

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.training_log import LoggedTraining, best_model

#: What asks for charges that sum to the total charge.
SHIFT = "{neutrality: shift}"


class ChargedTrainingTests(LoggedTraining):
    """Tests of ``les train`` with the setting ``neutrality: shift``.

    They use the fixtures of :class:`les.testing.ResponseTrainingTests`.
    """

    #: Changes of the arguments with which the charges of a few frames show.
    charged: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def ions(self, data_files: tuple[Path, Path], tmp_path: Path) -> dict[str, Path]:
        """The data with total charges, of every third frame, under both names."""
        files = {}
        for index, path in enumerate(data_files):
            frames: list[Any] = read(path, ":")
            for n, atoms in enumerate(frames[::3]):
                atoms.info["charge" if n % 2 else "total_charge"] = 1 if n % 2 else -2
            name = ("train_file", "valid_file")[index]
            files[name] = tmp_path / path.name
            write(files[name], frames, format="extxyz")
        return files

    def test_training_on_ions(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        ions: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        folder = tmp_path / "run"
        options = arguments(folder, **ions, **self.charged, les_arguments=SHIFT)
        train("--les", *options)
        assert f"4 of 12 structures of {ions['train_file']} have a total charge" in log.getvalue()
        assert "which this model cannot use" not in log.getvalue()
        backend = get_backend(backend_name)
        calculator = backend.calculator(best_model(log))
        assert calculator.les_config.neutrality == "shift"
        # A total charge has a sign, and so do all charges.
        assert calculator.les_config.sign == "trained"
        frames: list[Any] = read(ions["valid_file"], ":")
        for atoms in frames:
            charge = atoms.info.get("charge", atoms.info.get("total_charge", 0))
            charges = results_of(calculator, atoms)["charges"]
            assert charges.sum() == pytest.approx(charge, abs=1e-5)
        seen = _energy_rmse(calculator, frames)
        assert abs(seen - _energy_rmse(calculator, [_neutral(x) for x in frames])) > 0.1 * seen
        self.check_seen(seen, backend, folder, options, ions, log)

    def test_training_on_fragments(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """Batches may mix frames with and without fragments; fragments fix the sign, too."""
        files = {}
        for name, path in zip(("train_file", "valid_file"), data_files, strict=True):
            frames: list[Any] = read(path, ":")
            for atoms in frames[::3]:
                half = np.arange(len(atoms)) < len(atoms) // 2
                atoms.set_array("fragment", np.where(half, 7, 2))
                atoms.set_array("fragment_charge", np.where(half, 5.0, -5.0))
            files[name] = tmp_path / path.name
            write(files[name], frames, format="extxyz")
        folder = tmp_path / "run"
        options = arguments(folder, **files, **self.charged, les_arguments=SHIFT)
        train("--les", *options)
        assert "cannot use" not in log.getvalue()
        backend = get_backend(backend_name)
        calculator = backend.calculator(best_model(log))
        assert calculator.les_config.sign == "trained"
        frames = read(files["valid_file"], ":")
        charges = results_of(calculator, frames[0])["charges"]
        assert charges[: len(charges) // 2].sum() == pytest.approx(5.0, abs=1e-5)
        seen = _energy_rmse(calculator, frames)
        assert abs(seen - _energy_rmse(calculator, [_neutral(x) for x in frames])) > 0.1 * seen
        self.check_seen(seen, backend, folder, options, files, log)

    def check_seen(
        self,
        rmse: float,
        backend: Any,
        folder: Path,
        options: list[str],
        files: dict[str, Path],
        log: io.StringIO,
    ) -> None:
        """The training has this error [eV/atom] in its losses and in the table at the end."""
        history = self._history(backend.name, folder, files, options)
        assert min(abs(record.valid_energy_rmse - rmse) for record in history) < 1e-2 * rmse
        *_, row = (line for line in log.getvalue().splitlines() if line.startswith("valid "))
        told = float(row.split("|")[1].split("/")[1])  # meV/atom
        assert told == pytest.approx(1e3 * rmse, rel=6e-3)

    def test_training_with_charge_equilibration(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        ions: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """Equilibrated charges are trained through forces, and written to a model file."""
        settings = {"les_arguments": "{charge_equilibration: true}"}
        train("--les", *arguments(tmp_path / "run", **ions, **self.charged, **settings))
        calculator = get_backend(backend_name).calculator(best_model(log))
        assert calculator.les_config.charge_equilibration
        for atoms in read(ions["valid_file"], ":3"):
            charge = atoms.info.get("charge", atoms.info.get("total_charge", 0))
            charges = results_of(calculator, atoms)["charges"]
            assert charges.sum() == pytest.approx(charge, abs=1e-5)
            assert np.ptp(charges) > 1e-5

    def test_neutral_structures_leave_the_sign_open(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        train("--les", *arguments(tmp_path / "run", les_arguments=SHIFT))
        config = get_backend(backend_name).calculator(best_model(log)).les_config
        assert (config.neutrality, config.sign) == ("shift", "open")
        assert "have a total charge" not in log.getvalue()

    @pytest.mark.parametrize("name", ["valid_file", "test_file"])
    def test_ions_in_one_file_fix_the_sign(
        self,
        name: str,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        ions: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """With the other sign the charges of ions would sum to the opposite total charge."""
        changes: dict[str, Any] = {name: ions["valid_file"], "les_arguments": SHIFT}
        train("--les", *arguments(tmp_path / "run", **changes))
        calculator = get_backend(backend_name).calculator(best_model(log))
        assert calculator.les_config.sign == "trained"
        rows = [line.split()[0] for line in log.getvalue().splitlines() if " | " in line]
        assert name.removesuffix("_file") in rows

    @pytest.mark.parametrize(
        ("info", "message"),
        [
            ({"charge": "plus"}, "charge must be a number"),
            ({"charge": 1, "total_charge": -1}, "charge and total_charge are two names"),
        ],
    )
    def test_bad_total_charges_in_a_file(
        self,
        info: dict[str, Any],
        message: str,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        ions: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        frames: list[Any] = read(ions["valid_file"], ":")
        frames[1].info.update(info)
        write(ions["valid_file"], frames, format="extxyz")
        error = refused("--les", *arguments(tmp_path / "run", **ions, les_arguments=SHIFT))
        assert re.search(rf"{ions['valid_file'].name}: frame 1.*{message}", error), error


def _energy_rmse(calculator: Any, frames: list[Any]) -> float:
    """Error of the energies of labelled frames [eV/atom]."""
    deviations = [
        (results_of(calculator, atoms)["energy"] - atoms.info["REF_energy"]) / len(atoms)
        for atoms in frames
    ]
    return float(np.sqrt(np.mean(np.square(deviations))))


def _neutral(atoms: Any) -> Any:
    """A copy without charge and fragments."""
    copy = atoms.copy()
    for name in ("charge", "total_charge"):
        copy.info.pop(name, None)
    for name in ("fragment", "fragment_charge"):
        copy.arrays.pop(name, None)
    return copy
