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
