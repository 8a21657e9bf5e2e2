"""Tests: training of models that embed the total charge of a structure in their features."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read, write

from les.backends import get_backend
from les.cli import main
from les.testing.adapter import results_of
from les.testing.training_log import LoggedTraining, best_model

#: Settings of a model that knows the charge state, and of one whose charges alone do.
EMBEDDING = "{neutrality: shift, embed_total_charge: true, embed_spin: true}"
NEUTRALITY = "{neutrality: shift}"

#: By how much the energy of a cation, and that of an anion, is less than the neutral one [eV/atom].
DIFFERENCE = 0.2
CHARGES = (-1, 0, 1)


class ChargeStateTrainingTests(LoggedTraining):
    """Tests of ``les train`` with the setting ``embed_total_charge``.

    They use the fixtures of :class:`les.testing.ResponseTrainingTests`.
    """

    @pytest.fixture
    def learning_states(self) -> dict[str, Any]:
        """Changed arguments with which a model learns the energies of some frames in seconds."""
        raise NotImplementedError("define the fixture `learning_states`")

    @pytest.fixture
    def states(self, data_files: tuple[Path, Path], tmp_path: Path) -> dict[str, Path]:
        """Molecules in three charge states each, whose energies differ: by the same for all."""
        molecules: list[Any] = [atoms for atoms in read(data_files[0], ":8") if not atoms.pbc.any()]
        frames = []
        for atoms in molecules:
            for charge in CHARGES:
                ion = atoms.copy()
                ion.info.update(charge=charge, spin=1 + abs(charge))
                ion.info["REF_energy"] -= DIFFERENCE * abs(charge) * len(atoms)
                frames.append(ion)
        files = {name: tmp_path / f"states_{name}.xyz" for name in ("train_file", "valid_file")}
        write(files["train_file"], frames, format="extxyz")
        write(files["valid_file"], frames[:6], format="extxyz")
        return files

    def test_charge_states_of_one_geometry(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        states: dict[str, Path],
        learning_states: dict[str, Any],
        tmp_path: Path,
        log: io.StringIO,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Three charge states of one geometry can be learned only with the embedding.

        If a total charge only shifts the charges, the energy of cation and anion together, less
        twice the neutral energy, is the energy of the shifts, which is positive. Here it is
        negative.
        """
        errors: dict[str, float] = {}
        for settings, learning in ((NEUTRALITY, {}), (EMBEDDING, learning_states)):
            folder = tmp_path / str(len(errors))
            given = {**states, **learning, "les_arguments": settings}
            train("--les", *arguments(folder, **given))
            model = best_model(log)
            calculator = get_backend(backend_name).calculator(model)
            energies = []
            for atoms in read(states["valid_file"], ":"):
                if settings == NEUTRALITY:
                    atoms.info.pop("spin")
                energies.append(results_of(calculator, atoms)["energy"] / len(atoms))
            anions, neutral, cations = (np.array(energies[n::3]) for n in range(3))
            found = 0.5 * (anions + cations) - neutral
            errors[settings] = np.abs(found + DIFFERENCE).max()
        assert errors[NEUTRALITY] > DIFFERENCE
        assert errors[EMBEDDING] < 0.5 * DIFFERENCE
        assert calculator.embedded == ("total_charge", "spin")

        # What such a model needs, predictions must say, too.
        frames: list[Any] = read(states["valid_file"], ":3")
        del frames[1].info["charge"]
        write(tmp_path / "unsaid.xyz", frames, format="extxyz")
        capsys.readouterr()
        options = ["--backend", backend_name, "-o", str(tmp_path / "out.xyz")]
        assert main(["predict", model, str(tmp_path / "unsaid.xyz"), *options]) == 1
        error = capsys.readouterr().err
        assert re.search(r"unsaid\.xyz: frame 1: has no total charge", error), error

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"charge": None}, "has no total charge .looked for charge or total_charge."),
            ({"charge": "plus"}, "charge must be a number"),
            ({"spin": None}, "has no spin .looked for spin or total_spin."),
            ({"spin": 0}, "spin must be a multiplicity 2 S . 1 of at least 1, got 0"),
        ],
    )
    def test_bad_states_in_a_file(
        self,
        changes: dict[str, Any],
        message: str,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        states: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        frames: list[Any] = read(states["valid_file"], ":")
        frames[2].info.update(changes)
        frames[2].info = {key: x for key, x in frames[2].info.items() if x is not None}
        write(states["valid_file"], frames, format="extxyz")
        given = {**states, "les_arguments": EMBEDDING}
        error = refused("--les", *arguments(tmp_path / "run", **given))
        assert re.search(rf"{states['valid_file'].name}: frame 2.*{message}", error), error

    def test_a_spin_that_a_model_does_not_use(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        states: dict[str, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        given = {**states, "les_arguments": NEUTRALITY}
        train("--les", *arguments(tmp_path / "run", **given))
        assert "have a spin other than 0 or 1, which this model cannot use" in log.getvalue()
