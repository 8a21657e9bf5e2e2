"""Where CHGNet computes: as everywhere in les, but upstream has a variable of its own for it."""

from __future__ import annotations

import os

import torch

from les.devices import resolve_device

#: Variable of the environment that names upstream's device.
VARIABLE = "CHGNET_DEVICE"


def chgnet_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``"auto"`` is the one that :data:`VARIABLE` names.

    Without that variable it is a GPU if there is one.

    Raises:
        ValueError: as ``les.devices.resolve_device``.
    """
    return resolve_device((os.environ.get(VARIABLE) or name) if name == "auto" else name)


def device_of_arguments(device: str | torch.device | None, use_device: str | None) -> torch.device:
    """The device that either of the names of one argument says; the CPU if none does.

    Raises:
        ValueError: where the two names say different devices, and as :func:`chgnet_device`.
    """
    if use_device is not None:
        if device is not None and str(device) != use_device:
            raise ValueError(
                f"`device` and `use_device` are one argument, got {device!r} and {use_device!r}"
            )
        device = use_device
    return chgnet_device(str(device or os.environ.get(VARIABLE) or "cpu"))
