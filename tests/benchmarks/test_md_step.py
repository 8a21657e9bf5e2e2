"""Time and memory of steps of molecular dynamics, with a calculator that costs little."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.io import write

from les_bench import cli
from les_bench.speed import md_step, timing
from les_bench.speed.md_step import Memory, measure, repeats

CELL = [4.0, 6.0, 20.0]


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)


@pytest.fixture
def box() -> Atoms:
    return Atoms("OHH", [[0, 0, 0], [2.2, 0, 0], [0, 2.3, 0]], cell=CELL, pbc=True)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """Models of the backend "fake", short-range and with LES."""
    paths = tmp_path / "sr.json", tmp_path / "les.json"
    for path in paths:
        path.write_text(f'{{"variant": "{path.stem}"}}')
    return paths


def test_sizes(box: Atoms) -> None:
    assert repeats(box, 3) == [1, 1, 1]
    assert repeats(box, 12) == [2, 2, 1]
    lengths = box.repeat(repeats(box, 3 * 64)).cell.lengths()
    assert max(lengths) <= 2 * min(lengths)
    assert len(box.repeat(repeats(box, 3 * 30))) == 90
    with pytest.raises(ValueError, match="--atoms must be multiples of the structure's 3, got 4"):
        repeats(box, 4)
    box.pbc = False
    assert repeats(box, 3) == [1, 1, 1]
    with pytest.raises(ValueError, match="is not periodic: --atoms must be 3, got 6"):
        repeats(box, 6)
    box.pbc = [True, True, False]
    assert repeats(box, 12)[2] == 1


def test_steps_are_counted(box: Atoms, fake_backend) -> None:
    """Both models do the same number of steps, on the sizes that were asked for."""
    calls = []

    class Counted(fake_backend.make):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            calls.append((self.variant, len(atoms)))
            super().calculate(atoms, properties, system_changes)

    steps = list(measure(box, [Counted("sr"), Counted("les")], [3, 6], "cpu"))
    assert [step.n_atoms for step in steps] == [3, 6]
    for n in (3, 6):
        counts = [calls.count((variant, n)) for variant in ("sr", "les")]
        assert counts[0] == counts[1] >= timing.REPETITIONS + 2
    assert all(seconds > 0 for step in steps for seconds in step.seconds)
    assert len(steps[0].line()) == len(md_step.HEADER)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells memory")
def test_memory_is_counted_anew() -> None:
    memory = Memory("cpu")
    if not memory.begin():
        pytest.skip("not permitted here")
    before = memory.most()
    large = bytearray(100 * 2**20)
    large[:: 2**10] = b"x" * (100 * 2**10)
    with_it = memory.most()
    del large
    assert with_it > before + 90
    assert memory.begin()
    assert memory.most() < with_it - 90


def test_command(box: Atoms, models, tmp_path: Path, monkeypatch, fake_backend, capsys) -> None:
    monkeypatch.setattr(md_step, "get_backend", lambda name: fake_backend())
    monkeypatch.setattr(md_step, "backend_of", lambda path: "fake")
    write(tmp_path / "box.xyz", box)
    short, les = map(str, models)
    arguments = [str(tmp_path / "box.xyz"), "--atoms", "3", "6"]
    assert cli.main(["md-step", short, les, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["time: wall", md_step.HEADER]
    assert [line.split()[0] for line in lines[2:]] == ["3", "6"]
    assert cli.main(["md-step", short, les, *arguments, "--clock", "processor"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "time: processor"
    for models_, extra, message in (
        ((les, short), (), "`short_range` must be a model without LES"),
        ((short, short), (), "`les` must be a model with LES"),
        ((short, les), ("7",), "--atoms must be multiples"),
        ((short, les), ("--threads", "0"), "--threads must be positive, got 0"),
        (
            (short, les),
            ("--clock", "processor", "--device", "cuda"),
            "--clock processor does not say how long a GPU takes; it needs --device cpu, got cuda",
        ),
    ):
        with pytest.raises(SystemExit):
            cli.main(["md-step", *models_, *arguments, *extra])
        assert message in capsys.readouterr().err
