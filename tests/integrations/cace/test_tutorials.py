"""Tutorials with models of CACE that need no other program."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", ["charge-states", "a-benchmark"])
def test_pages(page, run_tutorials):
    run_tutorials(page)
