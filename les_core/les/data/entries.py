"""Single numbers that say something about a structure as a whole, in ``Atoms.info``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def one_number(atoms: Any, names: Iterable[str], what: str) -> tuple[str, float] | None:
    """The number that a structure has under one of ``names``, and the first such name.

    Args:
        atoms: ``ase.Atoms``.
        names: entries of ``atoms.info`` that may hold it.
        what: what it is, and in which unit, for messages.

    Returns:
        ``None`` if there is no such entry.

    Raises:
        ValueError: naming the entry, for what is not one finite number, or differs between two
            entries.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys(names):
        value = atoms.info.get(name)
        if value is not None:
            found[name] = _number(name, value, what)
    for name, number in found.items():
        first = next(iter(found))
        if number != found[first]:
            raise ValueError(
                f"{first} and {name} are two names of the {what.partition(' in ')[0]}, got "
                f"{found[first]:g} and {number:g}"
            )
    return next(iter(found.items()), None)


def _number(name: str, value: Any, what: str) -> float:
    """``value`` as a finite number."""
    array = np.asarray(value)
    if array.ndim != 0:
        raise ValueError(
            f"{name} must be one number, the {what}, got an array of shape {list(array.shape)}"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a number, the {what}, got {value!r}")
    number = float(array)
    if not np.isfinite(number):
        raise ValueError(f"{name} must be finite, the {what}, got {number}")
    return number
