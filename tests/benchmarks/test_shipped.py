"""``les bench kernels --shipped``: kernels of a wheel against those that are compiled here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from les.sums.cpu import library
from les_bench.cli import main
from les_bench.speed import shipped, timing


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compiler: str) -> Path:
    """Kernels that are like those of a wheel; the folder that they are in."""
    monkeypatch.setenv("CC", quick_compiler)
    folder = tmp_path / "compiled"
    folder.mkdir()
    library.compile_kernels(torch.float64, folder)
    monkeypatch.setattr(library, "SHIPPED", folder)
    return folder


def test_both_are_used_and_give_the_same(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(shipped, "CASES", (shipped.Case("50 atoms", 1, 50, True),))
    used = []
    engine = shipped.CpuEngine
    monkeypatch.setattr(shipped, "CpuEngine", lambda each: used.append(each._name) or engine(each))
    threads = torch.get_num_threads()
    assert main(["kernels", "--shipped"]) == 0
    torch.set_num_threads(threads)
    _, path, compiling, _, _, *rows = capsys.readouterr().out.splitlines()
    assert path == f"shipped: {next(kernels.iterdir())}"
    assert float(compiling.split()[3]) > 0.0
    assert [row[:2] for row in map(str.split, rows)] == [["50", "atoms"]] * 2
    for row in rows:
        *_, first, second, ratio, difference = map(float, row.split()[-4:])
        assert ratio == pytest.approx(first / second, abs=0.01, rel=0.01)
        assert difference < 1e-10
    first, second = set(used)
    assert {Path(first).parent, Path(second).parent} > {kernels}
    assert used[::2] != used[1::2]


def test_where_no_kernels_came_with_les(
    kernels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(kernels)
    with pytest.raises(ValueError, match="--shipped needs an installation of les that came with"):
        main(["kernels", "--shipped"])
    with pytest.raises(SystemExit):
        main(["kernels", "--shipped", "--peers"])
    assert "--peers: not allowed with argument --shipped" in capsys.readouterr().err
