"""What learning curves tell of runs that go on or were interrupted."""

from __future__ import annotations

import pytest

from les_bench.suite.curve import breaks, digest, position


def curve(*epochs: int, first: float = 1.5) -> list[dict]:
    return [{"epoch": epoch, "seconds": first + 0.1 * epoch} for epoch in epochs]


def test_whole_curves() -> None:
    assert breaks([digest(curve(0, 1, 2))], curve(0, 1, 2)) == []
    assert breaks([digest([])], []) == []
    attempts = [digest(curve(*range(n))) for n in (0, 3, 2, 5)]  # 2: from the last checkpoint
    assert breaks(attempts, curve(*range(5))) == []


def test_beginning_again() -> None:
    attempts = [digest(x) for x in (curve(0, 1), curve(0, 1, 2), curve(0, first=2.0))]
    assert breaks(attempts, curve(0, first=2.0)) == [
        "attempt 3 to train began again at the first epoch, although 3 had been done"
    ]
    assert breaks([digest(curve(0)), digest(curve(0, first=2.0))], curve(0, first=2.0)) == []


def test_gaps() -> None:
    found = curve(1, 2, 5, 6)
    assert breaks([digest(found)], found) == ["the learning curve lacks epochs 3, 4"]


@pytest.mark.parametrize(
    ("done", "epochs", "n_before", "text"),
    [
        (0, 10, 0, ""),
        (5, None, 0, "epoch 5"),
        (5, 10, 5, "epoch 5 of 10"),
        (5, 10, 0, "epoch 5 of 10, 01:00 left"),
        (5, 10, 3, "epoch 5 of 10, 02:30 left"),
        (10, 10, 3, "epoch 10 of 10"),
    ],
)
def test_position(done: int, epochs: int | None, n_before: int, text: str) -> None:
    assert position(curve(*range(done)), epochs, 60.0, n_before) == text
