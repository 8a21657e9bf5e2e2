"""Checks of the settings of a distillation, and of one part of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from les.keys import refuse_unknown
from les.ranges import is_number

Part = TypeVar("Part")


def part(kind: type[Part], where: str, values: Any) -> Part:
    """An instance of a dataclass from a mapping, whose errors say where in the file they are.

    Args:
        kind: the dataclass, which checks its own values.
        where: the key of this part.
        values: what stands there.

    Raises:
        ValueError: for what is no mapping, an unknown or a missing key, and a bad value.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"`{where}` must be a mapping of keys to values, got {values!r}")
    try:
        refuse_unknown(values, [each.name for each in fields(kind)])  # type: ignore[arg-type]
        return kind(**values)
    except TypeError as error:
        missing = str(error).partition("argument")[2].lstrip("s: ")
        raise ValueError(f"{where}: has no {missing.replace(chr(39), '`')}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def optional_part(kind: type[Part], where: str, values: Any) -> Part | None:
    """As :func:`part`, of a part that may be missing, or be an instance already."""
    return values if values is None or isinstance(values, kind) else part(kind, where, values)


def check_text(name: str, value: Any, *, empty: bool = False) -> None:
    """Raise ``ValueError``, which names the value, unless it is a text; ``empty`` allows none."""
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"`{name}` must be a text, got {value!r}")


def check_options(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless a value is a mapping of names to values."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"`{name}` must be a mapping of names to values, got {value!r}")


def texts(name: str, value: Any) -> tuple[str, ...]:
    """A list of texts, or a single one, as a tuple; ``ValueError`` for anything else."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"`{name}` must be a list of texts, got {value!r}")
    return tuple(value)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise ``ValueError`` unless a value is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless a value is a positive number."""
    if not (is_number(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive number, got {value!r}")


def check_numbers(part: Any, name: str, least: float) -> None:
    """Let an entry be a tuple of numbers above ``least``, of which none comes twice."""
    value = getattr(part, name)
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(is_number(x) and x > least for x in values):
        raise ValueError(f"`{name}` must be a list of numbers above {least:g}, got {value!r}")
    if len({round(x, 9) for x in values}) < len(values) or not all(map(math.isfinite, values)):
        raise ValueError(f"`{name}` must not have the same number twice, got {value!r}")
    object.__setattr__(part, name, tuple(float(x) for x in values))
