"""Acoustic sums, and the current."""

from __future__ import annotations

import pytest
import torch

from les import acoustic_sum, current, spread_acoustic_sum

BATCH = [0, 0, 0, 1, 1, 2]


@pytest.fixture
def bec():
    return torch.randn(6, 3, 3, dtype=torch.float64)


@pytest.fixture
def batch():
    return torch.tensor(BATCH)


def test_acoustic_sum(bec, batch):
    sums = acoustic_sum(bec, batch, 3)
    expected = torch.stack([bec[:3].sum(0), bec[3:5].sum(0), bec[5]])
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(acoustic_sum(bec), bec.sum(0, keepdim=True))


def test_spread(bec, batch):
    """All atoms of a structure give the same, and nothing is left."""
    spread = spread_acoustic_sum(bec, batch, 3)
    zero = torch.zeros(3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(acoustic_sum(spread, batch, 3), zero, rtol=0.0, atol=1e-14)
    taken = bec - spread
    torch.testing.assert_close(taken[0], bec[:3].mean(0))
    torch.testing.assert_close(taken[1:3], taken[:1].expand(2, 3, 3))
    torch.testing.assert_close(spread_acoustic_sum(spread, batch, 3), spread)


def test_a_structure_without_atoms(bec):
    sums = acoustic_sum(bec, torch.tensor([0, 0, 0, 2, 2, 2]), 3)
    assert not sums[1].any()


def test_spread_can_be_trained_on(bec, batch, check_gradients):
    check_gradients(lambda bec: spread_acoustic_sum(bec, batch, 3), [bec.requires_grad_()])


def test_current(bec, batch):
    velocities = torch.randn(6, 3, dtype=torch.float64)
    found = current(bec, velocities, batch, 3)
    for structure in range(3):
        expected = sum(bec[i] @ velocities[i] for i in range(6) if BATCH[i] == structure)
        torch.testing.assert_close(found[structure], expected)


def test_a_structure_that_moves_as_a_whole_carries_its_acoustic_sum(bec, batch):
    drift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    found = current(bec, drift.expand(6, 3), batch, 3)
    torch.testing.assert_close(found, acoustic_sum(bec, batch, 3) @ drift)
    still = current(spread_acoustic_sum(bec, batch, 3), drift.expand(6, 3), batch, 3)
    torch.testing.assert_close(still, torch.zeros_like(still), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("function", [acoustic_sum, spread_acoustic_sum])
def test_bad_input(function, bec, batch):
    with pytest.raises(ValueError, match=r"`bec` must have shape \[n_atoms, 3, 3\].*\[6, 9\]"):
        function(bec.reshape(6, 9))
    with pytest.raises(
        ValueError, match=r"`bec` must have .*floating-point numbers, got torch.int"
    ):
        function(bec.long())
    with pytest.raises(TypeError, match=r"`bec` must be a torch.Tensor, got numpy.ndarray"):
        function(bec.cpu().numpy())
    with pytest.raises(ValueError, match=r"`batch` must have shape \[n_atoms\] = \[6\]"):
        function(bec, batch[:4], 3)
    with pytest.raises(ValueError, match="`batch` must be given for several structures"):
        function(bec, None, 2)
    with pytest.raises(ValueError, match=r"`batch` must lie in 0 ... n_structures - 1 = 1"):
        function(bec, batch, 2)
    bec[2, 1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"`bec` must be finite, got nan at index \[2, 1, 0\]"):
        function(bec)


def test_bad_velocities(bec):
    with pytest.raises(
        ValueError, match=r"`velocities` must have shape .* = \[6, 3\], got \[5, 3\]"
    ):
        current(bec, torch.zeros(5, 3))
    with pytest.raises(TypeError, match=r"`velocities` must be a torch.Tensor"):
        current(bec, [[0.0, 0.0, 0.0]] * 6)
    with pytest.raises(ValueError, match="`velocities` must be finite, got inf"):
        current(bec, torch.full((6, 3), float("inf")))
    with pytest.raises(ValueError, match="`bec` must have shape"):
        current(bec.reshape(6, 9), torch.zeros(6, 3))
