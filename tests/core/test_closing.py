"""How trainings end: a table of errors, where the model is, how to use it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write

from les.backends import Backend
from les.training import closing
from les.training.closing import close, errors_of, labelled_sets, sample


class Constant(Calculator):
    """Energy of 2 eV per atom, no forces; magnetic moments without a label do not count."""

    implemented_properties = ("energy", "forces", "stress", "magmoms")

    def calculate(self, atoms=None, properties=None, system_changes=()):
        n = len(atoms)
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model does not know xenon")
        self.results = {"energy": 2.0 * n, "forces": np.zeros((n, 3)), "magmoms": np.ones(n)}


class SomeBackend(Backend):
    name = package = "les_some"

    def __init__(self):
        self.calls = []

    def calculator(self, model, **options):
        self.calls.append((model, options))
        return Constant()

    def train(self, arguments, *, les): ...

    training_arguments = trained_model = history = train


def frame(symbols, energy, force):
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3))
    labels = {"energy": np.array([energy]), "forces": np.full((len(atoms), 3), force)}
    return f"data.xyz: frame {len(atoms)}", atoms, {**labels, "magmoms": None}


def test_errors_count_per_atom_and_per_component():
    errors = errors_of(Constant(), [frame("H2", 4.2, 0.5), frame("OH2", 5.7, -0.1)])
    assert errors.mae("energy") == pytest.approx(0.1)
    assert errors.mae("forces") == pytest.approx((6 * 0.5 + 9 * 0.1) / 15)
    assert errors.rmse("forces") == pytest.approx(((6 * 0.25 + 9 * 0.01) / 15) ** 0.5)
    assert errors.mae("magmoms") is errors.mae("stress") is None


@pytest.mark.parametrize(("unsigned", "error"), [((), 1.5), ({"magmoms"}, 0.5)])
def test_magnitudes_are_compared_without_the_signs_of_labels(unsigned, error):
    calculator = Constant()
    calculator.unsigned_labels = unsigned
    where, atoms, labels = frame("H2", 4.2, -0.5)
    labels["magmoms"] = np.array([1.5, -1.5])
    errors = errors_of(calculator, [(where, atoms, labels)])
    assert errors.mae("magmoms") == error
    assert errors.mae("forces") == 0.5
    assert labels["magmoms"].tolist() == [1.5, -1.5]


def test_a_frame_that_cannot_be_evaluated_is_named():
    with pytest.raises(ValueError, match=r"data\.xyz: frame 1: the model does not know xenon"):
        errors_of(Constant(), [frame("H2", 4.2, 0.5), frame("Xe", 0.0, 0.0)])


def test_close(caplog):
    backend = SomeBackend()
    sets = {"train": [frame("H2", 4.2, 0.5)], "test": [frame("H2", 4.4, 0.0)]}
    with caplog.at_level(logging.INFO, logger="les"):
        errors = close(backend, Path("my runs/water.some"), sets, device="cuda")
    options = {"device": "cuda", "head": None, "bec": False}
    assert backend.calls == [(Path("my runs/water.some"), options)]
    assert errors["test"].mae("energy") == pytest.approx(0.2)
    assert "best model: my runs/water.some" in caplog.text
    assert "les predict 'my runs/water.some' structures.xyz" in caplog.text
    assert "from les_some import LESCalculator" in caplog.text
    assert "LESCalculator('my runs/water.some')" in caplog.text
    *_, head, train, test = caplog.text.splitlines()
    assert "energy MAE / RMSE [meV/atom] | forces MAE / RMSE [meV/A]" in head
    assert [x.strip() for x in train.split("|")] == ["train", "100 / 100", "500 / 500"]
    assert [x.strip() for x in test.split("|")] == ["test", "200 / 200", "0 / 0"]


def test_large_sets_are_sampled(caplog, monkeypatch):
    """From their beginning to their end, and the table says so."""
    monkeypatch.setattr(closing, "MOST_FRAMES", 100)
    backend = SomeBackend()

    def sets():
        """Energies from 0 to 1 eV/atom above those of the calculator; files are read once."""
        frames = (frame("H2", 4.0 + index / 500, 0.0) for index in range(1000))
        return {"train": frames, "valid": iter([frame("H2", 4.2, 0.0)] * 100)}

    with caplog.at_level(logging.INFO, logger="les"):
        errors = close(backend, Path("water.some"), sets())
    assert list(errors) == ["train (100 of 1000)", "valid"]
    assert [each.sizes["energy"] for each in errors.values()] == [100, 100]
    *_, train, valid = caplog.text.splitlines()
    assert train.startswith("train (100 of 1000) | ")
    assert valid.startswith("valid               | 100 / 100")
    # Five standard errors of the mean of 100 values that spread evenly from 0 to 1.
    mean = errors["train (100 of 1000)"].mae("energy")
    assert mean == pytest.approx(0.5, abs=5 * 0.29 / 10)
    again = close(backend, Path("water.some"), sets())
    assert again["train (100 of 1000)"].mae("energy") == mean


@pytest.mark.parametrize("most", [1, 7, 20, 40])
def test_every_frame_has_its_chance(most):
    chosen, total = sample(((index, None, {}) for index in range(20)), most)
    numbers = [number for number, *_ in chosen]
    assert total == 20
    assert len(set(numbers)) == len(numbers) == min(most, 20)
    if most >= 20:
        assert numbers == list(range(20))
    tenths = [0] * 10
    for number, *_ in sample(((index, None, {}) for index in range(10000)), 1000)[0]:
        tenths[number // 1000] += 1
    assert min(tenths) > 60
    assert max(tenths) < 140


def test_close_of_one_of_several_heads(caplog):
    backend = SomeBackend()
    with caplog.at_level(logging.INFO, logger="les"):
        close(backend, Path("water.some"), {"train": [frame("H2", 4.2, 0.5)]}, head="pbe")
    assert backend.calls[0][1]["head"] == "pbe"
    assert "best model: water.some, head pbe" in caplog.text
    assert "les predict water.some structures.xyz --head pbe" in caplog.text
    assert "LESCalculator('water.some', head='pbe')" in caplog.text


def test_close_without_structures(caplog):
    """As of data that are not in memory."""
    backend = SomeBackend()
    with caplog.at_level(logging.INFO, logger="les"):
        assert close(backend, Path("water.some"), {}) == {}
    assert "best model: water.some" in caplog.text
    assert backend.calls == []


def test_the_model_is_told_before_a_frame_fails(caplog):
    with caplog.at_level(logging.INFO, logger="les"), pytest.raises(ValueError, match="xenon"):
        close(SomeBackend(), Path("water.some"), {"test": [frame("Xe", 0.0, 0.0)]})
    assert "best model: water.some" in caplog.text


def test_sets_of_a_command(tmp_path):
    for name, n_frames in (("train", 3), ("valid", 1)):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
        atoms.info["dft"] = -1.0
        write(tmp_path / f"{name}.xyz", [atoms] * n_frames)
    options = argparse.Namespace(
        train_file=tmp_path / "train.xyz", valid_file=tmp_path / "valid.xyz", test_file=None
    )
    sets = labelled_sets(options, ["energy"], keys={"energy": "dft"})
    frames = {name: list(values) for name, values in sets.items()}
    assert {name: len(values) for name, values in frames.items()} == {"train": 3, "valid": 1}
    where, atoms, labels = frames["train"][2]
    assert where == f"{tmp_path / 'train.xyz'}: frame 2"
    assert len(atoms) == 2
    assert labels["energy"] == [-1.0]
