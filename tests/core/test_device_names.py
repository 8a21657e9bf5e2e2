"""The argument ``device`` of calculators and trainings."""

from __future__ import annotations

import pytest
import torch

from les.devices import resolve_device


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_devices_of_torch(name):
    assert resolve_device(name) == torch.device("cpu")


@pytest.mark.parametrize("there", [False, True])
def test_auto(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto").type == ("cuda" if there else "cpu")
    assert resolve_device().type == ("cuda" if there else "cpu")


@pytest.mark.parametrize(
    ("name", "n_gpus", "message"),
    [
        ("cuda", 0, "`device` is cuda, but torch sees no CUDA GPU here; try auto"),
        ("cuda:3", 2, "`device` is cuda:3, but torch sees 2 CUDA GPU here; try auto"),
        ("quda", 0, "`device` must be auto, cpu, cuda or cuda:N, got 'quda'"),
        ("", 0, "`device` must be auto, cpu, cuda or cuda:N, got ''"),
        (None, 0, "`device` must be auto, cpu, cuda or cuda:N, got None"),
        ("meta", 0, "`device` must be one that computes, got meta"),
    ],
)
def test_devices_that_are_not_here(monkeypatch, name, n_gpus, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(ValueError, match=message):
        resolve_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_devices_that_torch_was_not_built_for():
    with pytest.raises(ValueError, match=r"`device` mps cannot be used here"):
        resolve_device("mps")
