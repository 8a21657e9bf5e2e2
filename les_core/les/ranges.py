"""What the numbers of a configuration, and lengths like them, may be."""

from __future__ import annotations

import math

#: Smallest and largest value, and the unit. They are wide: results beyond them mean nothing, or
#: cannot be computed.
RANGES = {
    "sigma": (1e-3, 1e3, " A"),
    "skin": (1e-3, 1e3, " A"),
    "patience": (1.0, 1e7, " s"),
    "dl": (1e-3, 1e3, " A"),
    "norm_factor": (1e-6, 1e6, " eV A / e^2"),
    "epsilon_factor": (1e-6, 1e6, ""),
    "initial_charge_scale": (1e-12, 1e12, ""),
    "output_scaling_factor": (1e-12, 1e12, ""),
    "fixed_atomic_charges_scaling_factor": (1e-6, 1e6, ""),
    "equilibration_tolerance": (1e-13, 1e-2, ""),
}


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def check_number(name: str, value: object, kind: str = "") -> None:
    """One of :data:`RANGES` must be a number in its range.

    Args:
        name: what the message calls it.
        value: the number.
        kind: whose range it is, if not that of ``name``.

    Raises:
        ValueError: otherwise; the message names it, what it may be and what it is.
    """
    if not (is_number(value) and value > 0):  # type: ignore[operator]
        raise ValueError(f"`{name}` must be a positive number, got {value!r}")
    least, most, unit = RANGES[kind or name]
    if not least <= value <= most:  # type: ignore[operator]
        raise ValueError(f"`{name}` must be between {least:g} and {most:g}{unit}, got {value!r}")
