"""Packages that some commands need and that are not installed with les."""

from __future__ import annotations

import importlib
from typing import Any

from les.backends.interface import BackendError


def optional(module: str) -> Any:
    """The module of an optional package.

    Raises:
        BackendError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise BackendError(
            f"this needs {package} (no module {error.name!r}); install it with: "
            'pip install "les[spectra]"'
        ) from error
