"""The memory of live tensors."""

from __future__ import annotations

import torch

from memory import peak_memory

MEBIBYTE = 2**20 // 4  # numbers in single precision


def test_what_is_freed_does_not_count():
    def two_after_another():
        for _ in range(5):
            torch.zeros(3 * MEBIBYTE) + 1.0  # two live at the same time

    assert peak_memory(two_after_another) == 6.0


def test_what_autograd_keeps_counts():
    x = torch.ones(MEBIBYTE, requires_grad=True)

    def chain():
        y = x
        for _ in range(4):
            y = torch.sin(y)
        return y.sum()

    assert 4.0 <= peak_memory(chain) < 4.1


def test_views_count_once():
    assert peak_memory(lambda: torch.zeros(MEBIBYTE).view(2, -1).t()[0]) == 1.0
