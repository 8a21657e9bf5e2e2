"""The sign of a calculator's charges, in what is written down to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def state_of_sign(calculator: Any) -> dict[str, Any]:
    """What :func:`restore_sign` takes; empty for a calculator whose sign is never open."""
    sign = getattr(calculator, "charge_sign", None)
    return {} if sign is None else dict(sign.state())


def restore_sign(calculator: Any, state: Mapping[str, Any]) -> None:
    """Let the charges have the sign that they had when ``state`` was taken."""
    if hasattr(calculator, "charge_sign"):
        calculator.charge_sign.restore(state)
