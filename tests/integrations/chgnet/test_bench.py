"""The benchmark suite with the real adapter: training, evaluation, report."""

from __future__ import annotations

import json

import pytest
from ase.io import write

from les_bench.datasets import load
from les_bench.systems import get_system

SMALL = (
    "{atom_fea_dim: 8, bond_fea_dim: 8, angle_fea_dim: 8, atom_conv_hidden_dim: 8, "
    "bond_conv_hidden_dim: 8, mlp_hidden_dims: [8], n_conv: 2, num_radial: 5, num_angular: 5, "
    "atom_graph_cutoff: 4, bond_graph_cutoff: 2}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few of the embedded dipeptide frames, with and without Born effective charges."""
    folder = tmp_path_factory.mktemp("few")
    dataset = load(get_system("dipeptides"), "embedded")
    for split in ("train", "valid", "test"):
        frames = getattr(dataset, split)
        few = frames[:: max(1, len(frames) // 6)]
        if split == "test":
            few = [frame for frame in frames if "REF_bec" in frame.arrays][:2]
        name = {"valid": "val"}.get(split, split)
        write(folder / f"dipeptides_{name}.xyz", few, format="extxyz")
    return folder


def results_of(output):
    """Results by model and variant."""
    results = {}
    for path in output.glob("*/result.json"):
        model, variant = path.parent.name.rpartition("-seed")[0].rsplit("-", 1)
        results[model, variant] = json.loads(path.read_text())
    return results


@pytest.mark.slow
def test_short_range_against_les(folder, les_command, tmp_path):
    output = tmp_path / "results"
    run = ["bench", "run", "--system", "dipeptides", "--model", "chgnet", "--data", folder]
    run += ["--epochs", 2, "--threads", 1, "--output", output, "--", "--model", SMALL]
    assert les_command(*run) == 0
    results = {variant: result for (_, variant), result in results_of(output).items()}
    assert set(results) == {"sr", "les"}
    for result in results.values():
        assert [record["epoch"] for record in result["history"]] == [0, 1]
        assert result["history"][0]["seconds"] > 0.0
        assert result["metrics"]["test"]["n_structures"] == 2
    assert results["les"]["n_parameters"] > results["sr"]["n_parameters"]
    measured = {variant: set(result["metrics"]["test"]) for variant, result in results.items()}
    assert measured["les"] - measured["sr"] >= {"bec", "dipole"}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.pth.tar")}
    assert before
    assert les_command(*run) == 0  # all is done already
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.pth.tar")}
    assert les_command("bench", "report", output) == 0
    report = (output / "report.md").read_text()
    assert "chgnet" in report
    assert "data:image/png;base64," in (output / "report.html").read_text()


@pytest.mark.slow
def test_pretrained_model(folder, les_command, tmp_path):
    """Fine-tuned with its own configuration."""
    output = tmp_path / "results"
    run = ["bench", "run", "--system", "dipeptides", "--model", "chgnet-pretrained"]
    run += ["--data", folder, "--epochs", 1, "--threads", 1, "--output", output, "--variant", "les"]
    assert les_command(*run) == 0
    (result,) = results_of(output).values()
    assert result["n_parameters"] > 400_000
    assert result["metrics"]["test"]["n_structures"] == 2
    text = (output / "report.md").read_text() if les_command("bench", "report", output) == 0 else ""
    assert "chgnet-pretrained" in text
