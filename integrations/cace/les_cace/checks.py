"""Checks of the settings of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Kinds of messages, by their published names.
MESSAGES = ("M", "Ar", "Bchi")


def check_elements(zs: Any) -> list[int]:
    """``zs`` as a list, if it is one of different atomic numbers.

    Raises:
        ValueError: if it is not.
    """
    atomic_numbers = isinstance(zs, Sequence) and all(_is_whole(z) for z in zs)
    if not atomic_numbers or not zs or len(set(zs)) != len(zs) or min(zs) < 1:
        raise ValueError(f"`zs` must be a list of different atomic numbers, got {zs!r}")
    return list(zs)


def check_positive(name: str, value: Any) -> float:
    """``value`` as a number, if it is a finite one above 0.

    Raises:
        ValueError: if it is not; the message has its ``name``.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a number above 0, got {value!r}")
    return float(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_messages(kinds: Any, n_layers: int, hidden: Any) -> None:
    """Check the kinds of messages, the number of their layers and widths of their networks.

    Raises:
        ValueError: for unknown kinds, layers without messages and widths that are none.
    """
    if not isinstance(kinds, (list, tuple)) or not set(kinds) <= set(MESSAGES):
        raise ValueError(f"`message_types` must be a list of {MESSAGES}, got {kinds!r}")
    if not kinds and n_layers != 0:
        raise ValueError("`message_types` must not be empty with `num_message_passing` above 0")
    if not isinstance(hidden, (list, tuple)) or not all(_is_whole(x) and x > 0 for x in hidden):
        raise ValueError(
            f"`message_hidden` must be a list of whole numbers above 0, got {hidden!r}"
        )


def at_least(lowest: int, **numbers: int) -> None:
    """Check that ``numbers`` are whole ones from ``lowest`` on.

    Raises:
        ValueError: naming the first one that is not.
    """
    for name, value in numbers.items():
        if not _is_whole(value) or value < lowest:
            raise ValueError(f"`{name}` must be a whole number of at least {lowest}, got {value!r}")
