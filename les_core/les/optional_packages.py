"""Packages that some commands need and that are not installed with les."""

from __future__ import annotations

import importlib
from typing import Any

from les.backends.interface import BackendError

#: Packages to install with the extra ``spectra``, which needs a compiler; others come alone.
OF_SPECTRA = ("calorine", "pandas")


def optional(module: str) -> Any:
    """The module of an optional package.

    Raises:
        BackendError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        wanted = '"les[spectra]"' if package in OF_SPECTRA else package
        raise BackendError(
            f"this needs {package} (no module {error.name!r}); install it with: "
            f"pip install {wanted}"
        ) from error
