"""Keys of settings that are refused: those that nobody knows, and those that a model cannot use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any


def refuse_unknown(values: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ``ValueError`` for a key that is not ``known``; the message names the closest."""
    for name in values:
        if name not in known:
            closest = get_close_matches(str(name), sorted(known), n=1)
            hint = f"; did you mean {closest[0]!r}?" if closest else ""
            raise ValueError(f"unknown key {name!r}{hint} (known: {', '.join(sorted(known))})")


def refuse_unused(
    values: Mapping[str, Any], defaults: Mapping[str, Any], unused: Collection[str]
) -> None:
    """Raise ``ValueError`` for a setting that a model cannot use, unless it is the default.

    Args:
        values: the settings, which need not have all keys.
        defaults: the default of every setting.
        unused: names of the settings that have no effect on the model.
    """
    for name in unused:
        value, default = values.get(name, defaults[name]), defaults[name]
        if _plain(value) != _plain(default):
            raise ValueError(
                f"`{name}` has no effect on this model: it must be {default!r}, the default, got "
                f"{value!r}"
            )


def _plain(value: Any) -> Any:
    """``value``, where a list and a tuple of the same entries are the same."""
    return list(value) if isinstance(value, tuple) else value
