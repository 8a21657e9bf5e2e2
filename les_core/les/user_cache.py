"""The folder of what les keeps for a user: compiled kernels, fetched data."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/les``, or ``~/.cache/les`` where the variable names no absolute path."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "les"
