"""The calculator that an example is run with: of a model file, or a classical one to try it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from les.backends import backend_of, get_backend
from les.backends.loading import load_calculator


def calculator(model: Path | None, classical: Any, eps_inf: float | None = None) -> Any:
    """The calculator of a model file, with Born effective charges.

    Args:
        model: a file, of whichever backend; without one it is a classical model.
        classical: class of that model, of ``les.spectra.classical``.
        eps_inf: high-frequency dielectric constant.
    """
    if model is None:
        return classical(bec=True, eps_inf=eps_inf)
    return load_calculator(get_backend(backend_of(model)), model, bec=True, eps_inf=eps_inf)
