"""Figures of matplotlib that need no display, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from les.files import replacing
from les.optional_packages import optional


def new_figure(width: float = 7.0, height: float = 4.0) -> Any:
    """A figure that needs no display.

    Raises:
        BackendError: without matplotlib.
    """
    return optional("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)
