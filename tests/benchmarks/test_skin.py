"""What neighbours save that are kept, with a calculator that does nothing but find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write

from les.neighbours import Places, VerletList
from les_bench import cli
from les_bench.speed import skin, timing


class Gas(Calculator):
    """Atoms far from one another that feel nothing."""

    implemented_properties = ("energy", "forces")

    def __init__(self, skin: float = 1.0) -> None:
        super().__init__()
        self.neighbours = VerletList(skin)

    def calculate(self, atoms=None, properties=None, system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        none = np.zeros(0, dtype=int)
        places = Places(atoms.positions, atoms.cell[:], atoms.pbc)
        self.neighbours.pairs(places, 2.0, lambda radius: (none, none, np.zeros((0, 3), dtype=int)))
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)


@pytest.fixture
def box() -> Atoms:
    return Atoms("OHH", [[0, 0, 0], [2.2, 0, 0], [0, 2.3, 0]], cell=[4.0, 6.0, 20.0], pbc=True)


def test_searches_are_counted(box: Atoms) -> None:
    costs = list(skin.measure(box, [Gas(1.0), Gas(0.3), Gas(0.0)], [3, 6], 20))
    assert [(cost.n_atoms, cost.skin) for cost in costs] == [
        (size, width) for size in (3, 6) for width in (1.0, 0.3, 0.0)
    ]
    for wide, narrow, none in (costs[:3], costs[3:]):
        assert wide.steps > narrow.steps > none.steps == 1.0
        assert none.ratio == 1.0
        assert len(wide.line()) == len(skin.HEADER)


def test_command(box: Atoms, tmp_path: Path, monkeypatch, fake_backend, capsys) -> None:
    class Backend(fake_backend):
        def calculator(self, model, *, skin, **options):
            return Gas(skin)

    monkeypatch.setattr(skin, "get_backend", lambda name: Backend())
    monkeypatch.setattr(skin, "backend_of", lambda path: "fake")
    write(tmp_path / "box.xyz", box)
    command = ["skin", "model.json", str(tmp_path / "box.xyz"), "--atoms", "3", "--steps", "2"]
    assert cli.main([*command, "--skins", "0.5", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["time: wall", skin.HEADER]
    assert [line.split()[:2] for line in lines[2:]] == [["3", "0.5"], ["3", "2"], ["3", "0"]]
    for extra, message in (
        (("--skins", "-1"), "`skin` must be a number from 0 to 10 A, got -1.0"),
        (("--steps", "0"), "--steps must be positive, got 0"),
        (("--atoms", "7"), "--atoms must be multiples"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*command, *extra])
        assert message in capsys.readouterr().err
