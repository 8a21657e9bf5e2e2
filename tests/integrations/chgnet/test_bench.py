"""The benchmark suite with the real adapter: training, evaluation, report."""

from __future__ import annotations

import json

import pytest

SMALL = (
    "{atom_fea_dim: 8, bond_fea_dim: 8, angle_fea_dim: 8, atom_conv_hidden_dim: 8, "
    "bond_conv_hidden_dim: 8, mlp_hidden_dims: [8], n_conv: 2, num_radial: 5, num_angular: 5, "
    "atom_graph_cutoff: 4, bond_graph_cutoff: 2}"
)


@pytest.mark.slow
def test_short_range_against_les(check_benchmark):
    check_benchmark("chgnet", ".pth.tar", 10, "--model", SMALL)


@pytest.mark.slow
def test_pretrained_model(few_dipeptides, les_command, tmp_path):
    """Fine-tuned with its own configuration."""
    output = tmp_path / "results"
    run = ["bench", "run", "--system", "dipeptides", "--model", "chgnet-pretrained"]
    run += [
        "--data",
        few_dipeptides,
        "--epochs",
        1,
        "--threads",
        1,
        "--output",
        output,
        "--variant",
        "les",
    ]
    assert les_command(*run) == 0
    (path,) = output.glob("*/result.json")
    result = json.loads(path.read_text())
    assert result["n_parameters"] > 400_000
    assert result["metrics"]["test"]["n_structures"] == 2
    text = (output / "report.md").read_text() if les_command("bench", "report", output) == 0 else ""
    assert "chgnet-pretrained" in text
