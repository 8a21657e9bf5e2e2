"""The benchmark suite with NequIP."""

from __future__ import annotations

import pytest

SMALL = [f"training_module.model.{size}" for size in ("num_layers=1", "l_max=1", "num_features=4")]


@pytest.mark.slow
def test_short_range_against_les(check_benchmark):
    check_benchmark("nequip", ".nequip.pt", 15, "elements=[Na,Cl]", "batch_size=2", *SMALL)
