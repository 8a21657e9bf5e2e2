"""Tests: what the learning curve and the log of a training say about charges."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from les.backends import TrainingJob, get_backend
from les.testing.adapter import results_of
from les.training.charges import CHARGE_FIELDS


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """What is logged in a context; upstreams take away the handlers of pytest."""
    logger, text = logging.getLogger("les"), io.StringIO()
    handler, level = logging.StreamHandler(text), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield text
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def best_model(log: io.StringIO) -> str:
    """The model file that the last of the logged trainings has left."""
    return str(re.findall("best model: ([^\n]*)\n", log.getvalue())[-1])


class LoggedTraining:
    """Trainings whose log and learning curve are tested.

    Tests use fixtures of the adapter: ``backend_name``; ``arguments(folder, **changes)``, the
    arguments of a short training called "small"; ``train(*arguments)``, which must succeed; and
    ``data_files``, extxyz files with ``REF_energy`` and ``REF_forces`` to train on and to validate.
    """

    @pytest.fixture
    def log(self) -> Iterator[io.StringIO]:
        """The log of a test."""
        with logged() as text:
            yield text

    def _history(
        self, backend_name: str, folder: Path, files: dict[str, Path], arguments: list[str]
    ) -> list[Any]:
        seeds = [int(text.split("=")[1]) for text in arguments if text.startswith("--seed=")]
        job = TrainingJob(
            "small",
            folder,
            folder / "none.yaml",
            files["train_file"],
            files["valid_file"],
            seed=(seeds or [1])[0],
        )
        return get_backend(backend_name).history(job)


class TrainingLogTests(LoggedTraining):
    """Tests of reports on charges by ``les train``, under the same names for all backends."""

    def test_charges_of_each_epoch(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        """The reported charges of the best epoch are the charges of the resulting model."""
        options = arguments(tmp_path / "run")
        train("--les", *options)
        files = dict(zip(("train_file", "valid_file"), data_files))
        history = self._history(backend_name, tmp_path / "run", files, options)
        assert history
        calculator = get_backend(backend_name).calculator(best_model(log))
        charges, totals, energies = [], [], []
        for atoms in read(data_files[1], ":"):
            results = results_of(calculator, atoms)
            charges.append(results["charges"])
            totals.append(results["charges"].sum())
            energies.append(results["les_energy"] / len(atoms))
        expected = (
            np.sqrt(np.mean(np.concatenate(charges) ** 2)),
            abs(np.mean(totals)),  # the calculator may turn the sign
            np.abs(totals).max(),
            np.sqrt(np.mean(np.square(energies))),
        )
        told = [[abs(getattr(record, field)) for field in CHARGE_FIELDS] for record in history]
        # Charges that sum to zero do so to rounding.
        assert any(np.allclose(values, expected, rtol=1e-3, atol=1e-6) for values in told)
        found = re.findall(r"^valid: charges: RMS (\S+) e, total .*$", log.getvalue(), re.M)
        assert len(found) == 1
        assert float(found[0]) == pytest.approx(expected[0], rel=6e-3)

    def test_no_charges(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        log: io.StringIO,
    ) -> None:
        options = arguments(tmp_path / "run")
        train("--no-les", *options)
        files = dict(zip(("train_file", "valid_file"), data_files))
        for record in self._history(backend_name, tmp_path / "run", files, options):
            assert record.valid_loss is not None
            assert all(getattr(record, field) is None for field in CHARGE_FIELDS)
        assert "charges: RMS" not in log.getvalue()
