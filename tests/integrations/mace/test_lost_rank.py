"""A rank that is lost ends all, with what is known about it and without a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("lost_worker.py")


@pytest.mark.parametrize(
    ("how", "messages"),
    [
        ("killed", ["Killed (signal 9)"]),
        ("silent", ["rank 0 has waited 3 s for the other ranks: one of them is lost or hangs"]),
        ("raises", ["EngineError: this rank is broken (on rank 1)"]),
        ("raises together", ["les: error on rank 1", "ValueError: this rank is broken"]),
    ],
)
def test_a_lost_rank_ends_all(how, messages):
    done = subprocess.run(
        [Path(sys.executable).with_name("mpirun"), "-np", "2", sys.executable, WORKER, how],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1"},
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert all(message in said for message in messages), said
    assert "not reached" not in done.stdout
