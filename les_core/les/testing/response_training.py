"""Tests: training on Born effective charges and dipoles beside energies and forces."""

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
from les.testing.structures import crystal, dimer
from les.testing.training_log import TrainingLogTests, best_model

#: What hydrogen and oxygen are labelled with [e]: Born effective charges are these times the unit
#: matrix, and dipoles those of such charges.
NOMINAL = {"H": 0.4, "O": -0.8}


def _nominal(atoms: Any) -> np.ndarray:
    """``[n_atoms]`` [e], which sum to zero."""
    charges = np.array([NOMINAL[symbol] for symbol in atoms.symbols])
    return charges - charges.mean()


class ResponseTrainingTests(TrainingLogTests):
    """Tests of ``les train`` with terms of responses, and of what it tells about charges.

    They use fixtures of the adapter's tests: ``backend_name``; ``arguments(folder, **changes)``,
    the arguments of a short training called "small" on molecules and crystals of H and O;
    ``train(*arguments)``, which must succeed; ``refused(*arguments)`` and
    ``usage_error(*arguments)``, the message of what must fail; and ``data_files``.
    """

    #: Changes of the arguments with which a few frames are learned in seconds.
    learning: ClassVar[dict[str, Any]] = {}
    #: Weight of responses there.
    weight: ClassVar[float] = 10.0

    @pytest.fixture
    def labelled(self, data_files: tuple[Path, Path], tmp_path: Path) -> dict[str, Path]:
        """The data with four more frames, two open and two periodic.

        These have both responses, but neither energies nor forces.
        """
        files = {}
        for index, path in enumerate(data_files):
            name = ("train_file", "valid_file")[index]
            frames: list[Any] = read(path, ":")
            for n, atoms in enumerate((dimer(), crystal("cubic"), dimer(), crystal("cubic"))):
                atoms.rattle(0.05, seed=1000 + 10 * index + n)
                charges = _nominal(atoms)
                atoms.arrays["REF_bec"] = np.outer(charges, np.eye(3).ravel())
                atoms.info["REF_dipole"] = charges @ atoms.positions
                frames.insert(3 * n, atoms)
            files[name] = tmp_path / path.name
            write(files[name], frames, format="extxyz")
        return files

    def test_born_effective_charges_are_learned(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        labelled: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        options = arguments(tmp_path / "run", **labelled, **self.learning, bec_weight=self.weight)
        train("--les", *options)
        history = self._history(backend_name, tmp_path / "run", labelled, options)
        errors = [record.valid_bec_rmse for record in history]
        assert min(errors) < 0.7 * errors[0]
        assert all(record.valid_dipole_rmse is None for record in history)
        told = f"{labelled['train_file']}: 4 of 16 structures have the bec"
        assert log.getvalue().count(told) == 1
        assert f"{labelled['train_file']}: 12 of 16 structures have the energy" in log.getvalue()
        backend = get_backend(backend_name)
        calculator = backend.calculator(best_model(log), bec=True)
        assert calculator.les_config.sign == "trained"
        deviations, energies = [], []
        for atoms in read(labelled["valid_file"], ":"):
            results = results_of(calculator, atoms)
            if "REF_bec" in atoms.arrays:
                found = results["born_effective_charges"]
                deviations.append((found - atoms.arrays["REF_bec"]).ravel())
            else:
                energies.append((results["energy"] - atoms.info["REF_energy"]) / len(atoms))
        rmse = np.sqrt(np.mean(np.concatenate(deviations) ** 2))
        # Nor do structures without an energy count in its errors.
        energy = np.sqrt(np.mean(np.square(energies)))
        assert min(abs(record.valid_energy_rmse - energy) for record in history) < 1e-2 * energy
        assert rmse == pytest.approx(min(errors, key=lambda x: abs(x - rmse)), rel=1e-3)
        *_, head = (line for line in log.getvalue().splitlines() if "MAE / RMSE" in line)
        *_, row = (line for line in log.getvalue().splitlines() if line.startswith("valid "))
        cells = dict(zip(head.split("|")[1:], row.split("|")[1:], strict=True))
        (cell,) = (text for name, text in cells.items() if "bec MAE / RMSE [e]" in name)
        assert float(cell.split("/")[1]) == pytest.approx(rmse, rel=6e-3)

    def test_dipoles_are_learned(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        labelled: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """Dipoles of open structures are learned; those of periodic structures are multivalued."""
        for path in labelled.values():
            frames: list[Any] = read(path, ":")
            # Without a response that counts, a frame needs energy and forces.
            frames = [x for x in frames if "REF_energy" in x.info or not x.pbc.any()]
            periodic = next(x for x in frames if x.pbc.any())
            periodic.info["REF_dipole"] = [1.0, 2.0, 3.0]
            write(path, frames, format="extxyz")
        options = arguments(
            tmp_path / "run", **labelled, **self.learning, dipole_weight=self.weight
        )
        train("--les", *options)
        history = self._history(backend_name, tmp_path / "run", labelled, options)
        errors = [record.valid_dipole_rmse for record in history]
        assert min(errors) < 0.7 * errors[0]
        told = f"{labelled['train_file']}: 1 of 14 structures are periodic or charged and have"
        assert told in log.getvalue()
        assert f"{labelled['train_file']}: 2 of 14 structures have the dipole" in log.getvalue()
        assert "dipole MAE / RMSE [e A]" in log.getvalue()

    @pytest.mark.parametrize("weight", ["-1", "nan", "inf", "much"])
    def test_weights_out_of_range(
        self,
        weight: str,
        usage_error: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        error = usage_error("--les", *arguments(tmp_path), f"--bec_weight={weight}")
        assert "--bec_weight" in error

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--les", "--bec_weight=1"], "train.xyz: no structure has Born effective charges"),
            (
                ["--les", "--dipole_weight=1"],
                "train.xyz: no open and neutral structure has a dipole",
            ),
            (["--les", "--bec_key=x"], "--bec_key has no effect without --bec_weight"),
            (["--les", "--dipole_key=x", "--dipole_weight=0"], "--dipole_weight 0 has no effect"),
            (["--les", "--bec_weight=0"], "--bec_weight 0 has no effect"),
            (["--no-les", "--bec_weight=1"], "--bec_weight needs a model with charges"),
            (["--no-les", "--dipole_weight=1"], "--dipole_weight needs a model with charges"),
            (["--les", "--bec_weight=1", "--les_arguments={n_channels: 2}"], "n_channels"),
        ],
    )
    def test_refused(
        self,
        options: list[str],
        message: str,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        assert message in refused(options[0], *arguments(tmp_path), *options[1:])

    def test_dipoles_of_crystals_only(
        self,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        frames: list[Any] = read(data_files[0], ":")
        for frame in frames:
            if frame.pbc.any():
                frame.info["REF_dipole"] = [1.0, 2.0, 3.0]
        write(tmp_path / "train.xyz", frames, format="extxyz")
        options = arguments(tmp_path, train_file=tmp_path / "train.xyz", dipole_weight=1)
        assert "no open and neutral structure has a dipole" in refused("--les", *options)
        assert "6 of 12 structures are periodic or charged and have a dipole" in log.getvalue()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros((20, 3)), r"frame 3: key 'REF_bec' must have shape \[\d+, 9\], got"),
            (np.full((20, 9), np.nan), "frame 3: key 'REF_bec' holds NaN or infinite values"),
        ],
    )
    def test_bad_labels(
        self,
        values: np.ndarray,
        message: str,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        data_files: tuple[Path, Path],
        tmp_path: Path,
    ) -> None:
        frames: list[Any] = read(data_files[0], ":")
        frames[3].arrays["REF_bec"] = values[: len(frames[3])]
        write(tmp_path / "train.xyz", frames, format="extxyz")
        options = arguments(tmp_path, train_file=tmp_path / "train.xyz", bec_weight=1)
        error = refused("--les", *options)
        assert re.search(message, error), error

    def test_other_weights_are_not_continued(
        self,
        train: Callable[..., None],
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        labelled: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        train("--les", *arguments(tmp_path / "run", **labelled, bec_weight=10))
        options = arguments(tmp_path / "run", **labelled, bec_weight=20)
        error = refused("--les", *options, "--resume")
        assert "`bec_weight` = 10.0, this one has 20.0" in error
        train("--les", *arguments(tmp_path / "run", **labelled, bec_weight=10), "--resume")
