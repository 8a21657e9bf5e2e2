"""Where to compute: names of devices, checked."""

from __future__ import annotations

import torch


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``; ``"auto"`` is a CUDA GPU where torch sees one, else the CPU.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or another device of torch.

    Raises:
        ValueError: for what torch does not know, or does not have here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"`device` must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count() or "no"
        raise ValueError(f"`device` is {name}, but torch sees {found} CUDA GPU here; try auto")
    if device.type == "meta":
        raise ValueError("`device` must be one that computes, got meta")
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"`device` {name} cannot be used here: {error}") from error
    return device
