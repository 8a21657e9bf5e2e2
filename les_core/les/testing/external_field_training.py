"""Tests: training on structures in an external field."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase.io import read, write

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.response_training import _nominal
from les.testing.training_log import LoggedTraining, best_model

#: What asks for a model that takes a field.
TAKES_FIELD = "{external_field: true}"


class _InFields(LoggedTraining):
    @pytest.fixture
    def in_fields(self, data_files: tuple[Path, Path], tmp_path: Path) -> dict[str, Path]:
        """The data, of which two frames of three are in a field, strong enough to be learned.

        Energies and forces are those of nominal charges in it, besides. Crystals among them keep
        their energies, as files have them.
        """
        files = {}
        for index, path in enumerate(data_files):
            frames: list[Any] = read(path, ":")
            chance = np.random.default_rng(index)
            for n, atoms in enumerate(frames):
                if n % 3 == 0:
                    continue
                field, charges = chance.normal(scale=2.0, size=3), _nominal(atoms)
                atoms.info["external_field"] = field
                atoms.info["REF_energy"] -= field @ (charges @ atoms.positions)
                atoms.arrays["REF_forces"] += np.outer(charges, field)
            name = ("train_file", "valid_file")[index]
            files[name] = tmp_path / path.name
            write(files[name], frames, format="extxyz")
        return files

    def test_a_model_that_takes_none(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        in_fields: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """Fields are not ignored in silence."""
        train("--les", *arguments(tmp_path / "run", **in_fields))
        told = (
            f"8 of 12 structures of {in_fields['train_file']} have a external_field other than 0, "
            "which this model cannot use"
        )
        assert told in log.getvalue()


class NoFieldTrainingTests(_InFields):
    """Tests of ``les train`` for models that do not take a field.

    They use the fixtures of :class:`les.testing.ResponseTrainingTests`.
    """

    def test_the_setting_is_refused(
        self, refused: Callable[..., str], arguments: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        error = refused("--les", *arguments(tmp_path / "run", les_arguments=TAKES_FIELD))
        assert "external_field" in error


class FieldTrainingTests(_InFields):
    """Tests of ``les train`` with the setting ``external_field``.

    They use the fixtures of :class:`les.testing.ResponseTrainingTests`.
    """

    #: Changes of the arguments with which the field shows within seconds.
    learning: ClassVar[dict[str, Any]] = {}

    def test_fields_are_learned(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        in_fields: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        options = arguments(
            tmp_path / "run", **in_fields, **self.learning, les_arguments=TAKES_FIELD
        )
        train("--les", *options)
        text = log.getvalue()
        assert f"8 of 12 structures of {in_fields['train_file']} are in an external field" in text
        told = f"4 of 12 structures of {in_fields['train_file']} are periodic and in an external"
        assert text.count(told) == 1
        assert "which this model cannot use" not in text
        backend = get_backend(backend_name)
        calculator = backend.calculator(best_model(log))
        assert calculator.les_config.external_field
        assert calculator.les_config.sign == "trained"
        frames: list[Any] = read(in_fields["valid_file"], ":")
        energies, forces, blind, slopes, expected = [], [], [], [], []
        for atoms in frames:
            results, reference = results_of(calculator, atoms), atoms.arrays["REF_forces"]
            forces.append((results["forces"] - reference).ravel())
            if "energy" in results:
                energies.append((results["energy"] - atoms.info["REF_energy"]) / len(atoms))
            field = atoms.info.pop("external_field", np.zeros(3))
            without = results_of(calculator, atoms)["forces"]
            blind.append((without - reference).ravel())
            slopes.append((results["forces"] - without).ravel())
            expected.append(np.outer(_nominal(atoms), field).ravel())
        rmse = [float(np.sqrt(np.mean(np.concatenate(x) ** 2))) for x in (forces, blind)]
        # What the field does to forces is that of charges of the right sign.
        found, wanted = np.concatenate(slopes), np.concatenate(expected)
        share = float(found @ wanted / (wanted @ wanted))
        assert rmse[0] < rmse[1]
        assert 0.1 < share < 2.0
        assert np.corrcoef(found, wanted)[0, 1] > 0.5
        *_, row = (line for line in text.splitlines() if line.startswith("valid "))
        told_energy, told_forces = (float(x.split("/")[1]) for x in row.split("|")[1:3])
        energy = float(np.sqrt(np.mean(np.square(energies))))
        assert told_energy == pytest.approx(1e3 * energy, rel=6e-3)
        assert told_forces == pytest.approx(1e3 * rmse[0], rel=6e-3)
        # What is logged of each epoch does not count energies that there are not.
        history = self._history(backend_name, tmp_path / "run", in_fields, options)
        assert min(abs(x.valid_energy_rmse - energy) for x in history) < 2e-2 * energy

    def test_another_key(
        self,
        train: Callable[..., None],
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        in_fields: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        for path in in_fields.values():
            frames: list[Any] = read(path, ":")
            for atoms in frames:
                if "external_field" in atoms.info:
                    atoms.info["efield"] = atoms.info.pop("external_field")
            write(path, frames, format="extxyz")
        options = arguments(tmp_path / "other", **in_fields, les_arguments=TAKES_FIELD)
        error = refused("--les", *options)
        assert "no structure to train on is in an external field" in error
        assert "--external_field_key" in error
        options = arguments(
            tmp_path / "run", **in_fields, les_arguments=TAKES_FIELD, external_field_key="efield"
        )
        train("--les", *options)
        assert "8 of 12 structures of " in log.getvalue()
        assert "--external_field_key efield is for the files of this training" in log.getvalue()
        error = refused(
            "--les", *arguments(tmp_path / "no", **in_fields, external_field_key="efield")
        )
        assert "--external_field_key has no effect on a model that takes no field" in error

    def test_bad_fields(
        self,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        in_fields: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        frames: list[Any] = read(in_fields["train_file"], ":")
        frames[3].info["external_field"] = np.array([0.1, np.nan, 0.0])
        write(in_fields["train_file"], frames, format="extxyz")
        options = arguments(tmp_path / "run", **in_fields, les_arguments=TAKES_FIELD)
        error = refused("--les", *options)
        assert "frame 3: external_field must be three finite numbers, a field in V/A" in error

    def test_stress_of_crystals(
        self,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        in_fields: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        frames: list[Any] = read(in_fields["train_file"], ":")
        frames[1].info["REF_stress"] = np.zeros(6)
        write(in_fields["train_file"], frames, format="extxyz")
        options = arguments(tmp_path / "run", **in_fields, les_arguments=TAKES_FIELD)
        error = refused("--les", *options, *self.with_stress)
        assert "frame 1: has a stress" in error
        assert "is periodic and in an external field" in error

    #: Arguments with which the stress is trained on.
    with_stress: ClassVar[tuple[str, ...]] = ()
