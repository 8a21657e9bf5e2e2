"""The benchmark suite with the real adapter: training, evaluation, report."""

from __future__ import annotations

import json

import pytest
from ase.io import write

from les_bench.datasets import load
from les_bench.systems import get_system


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few of the embedded dipeptide frames, with and without Born effective charges."""
    folder = tmp_path_factory.mktemp("few")
    dataset = load(get_system("dipeptides"), "embedded")
    for split in ("train", "valid", "test"):
        frames = getattr(dataset, split)
        few = frames[:: max(1, len(frames) // 8)]
        if split == "test":
            few = [frame for frame in frames if "REF_bec" in frame.arrays][:3]
        name = {"valid": "val"}.get(split, split)
        write(folder / f"dipeptides_{name}.xyz", few, format="extxyz")
    return folder


def test_short_range_against_les(folder, les_command, tmp_path):
    output = tmp_path / "results"
    run = ["bench", "run", "--system", "dipeptides", "--data", folder, "--epochs", 1]
    run += ["--threads", 1, "--output", output]
    assert les_command(*run) == 0
    results = {
        path.parent.name.split("-")[-2]: json.loads(path.read_text())
        for path in output.glob("*/result.json")
    }
    assert set(results) == {"sr", "les"}
    for result in results.values():
        assert result["history"][0]["seconds"] > 0.0
        assert result["metrics"]["test"]["n_structures"] == 3
    assert results["les"]["n_parameters"] > results["sr"]["n_parameters"]
    assert {"bec", "dipole"} <= results["les"]["metrics"]["test"].keys()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.model")}
    assert les_command(*run) == 0  # all is done already
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.model")}
    assert les_command("bench", "report", output) == 0
    report = (output / "report.md").read_text()
    assert "mace" in report
    assert "data:image/png;base64," in (output / "report.html").read_text()
