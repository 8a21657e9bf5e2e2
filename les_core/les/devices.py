"""Where to compute, and in which precision: names of devices and types, checked."""

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


#: Precisions that models are used in, by the names that calculators and commands take.
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_dtype(name: str, own: torch.dtype) -> torch.dtype:
    """The precision called ``name``; an empty name is that of the model.

    Args:
        name: ``"float64"``, ``"float32"`` or empty.
        own: precision of the model.

    Raises:
        ValueError: for another name.
    """
    if name and name not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name] if name else own
