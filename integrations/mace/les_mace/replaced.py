"""Attributes of upstream that are something else for a while."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

#: Upstream's module of its loop: the package has a function of the same name.
train_module = importlib.import_module("mace.tools.train")


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let ``owner.name`` be ``value`` in this context."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
