"""``les bench batches``, with a model whose time is known."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import write

from les_bench import cli
from les_bench.speed import batches
from les_bench.speed.batches import copies, measure


class Slow(Calculator):
    """Takes its time for each call, whatever it computes."""

    implemented_properties = ("energy", "forces")
    SECONDS, error = 0.004, 0.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.SECONDS)
        energy = float(atoms.positions.sum())
        self.results = {"energy": energy, "forces": np.ones((len(atoms), 3))}

    def calculate_together(self, structures):
        time.sleep(self.SECONDS)
        for atoms in structures:
            energy = float(atoms.positions.sum()) + self.error
            yield {"energy": energy, "forces": np.ones((len(atoms), 3))}


@pytest.fixture
def molecule():
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]])
    atoms.info = {"REF_energy": 1.0, "charge": 0}
    return atoms


def test_rates(molecule) -> None:
    structures = copies(molecule, 8)
    assert [set(atoms.info) for atoms in structures] == [{"charge"}] * 8
    calculator = Slow()
    rates = list(measure(calculator, structures, [8, 2]))
    assert [rate.size for rate in rates] == [8, 2]
    assert rates[0].ratio > 3.0
    assert 1.0 < rates[1].ratio < rates[0].ratio
    assert rates[0].difference == 0.0
    (idle,) = measure(calculator, structures, [8], "processor")  # asleep, it takes hardly any
    assert idle.single > 2 * rates[0].single
    calculator.error = 0.25
    (wrong,) = measure(calculator, structures, [8])
    assert wrong.difference == pytest.approx(0.25)


def test_command(molecule, tmp_path: Path, monkeypatch, capsys) -> None:
    class Backend:
        def calculator(self, model, **options):
            return Slow()

    monkeypatch.setattr(batches, "get_backend", lambda name: Backend())
    monkeypatch.setattr(batches, "backend_of", lambda path: "fake")
    write(tmp_path / "molecule.xyz", molecule)
    argv = ["batches", "model.pt", str(tmp_path / "molecule.xyz"), "--number", "4"]
    assert cli.main([*argv, "--sizes", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["4 structures of 3 atoms; time: wall", batches.HEADER]
    assert len(lines[2]) == len(batches.HEADER)
    for extra, message in (
        (("--sizes", "0"), "--sizes must be positive, got 0"),
        (("--threads", "0"), "--threads must be positive, got 0"),
        (("--clock", "processor", "--device", "cuda:0"), "needs --device cpu, got cuda:0"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*argv, *extra])
        assert message in capsys.readouterr().err
