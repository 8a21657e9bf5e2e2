"""The benchmark suite with the real adapter: training, evaluation, report."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_short_range_against_les(check_benchmark):
    check_benchmark("mace", ".model", 10)
