"""Calculators of model files, of whichever backend they are."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from les.backends.interface import Backend, BackendError


def load_calculator(
    backend: Backend, model: str | Path, *, head: str | None = None, **options: Any
) -> Any:
    """The calculator of a model file.

    Args:
        backend: whose model it is.
        model: the file, or the name of a model that comes with the backend.
        head: which head of a model with several; not all backends have such models.
        options: further ones of ``Backend.calculator``.

    Raises:
        BackendError: if upstream cannot be used here, or for a ``head`` that the backend cannot
            choose.
        OSError: if the file is missing or may not be read.
        ValueError: if it is damaged or no model; the message names it.
    """
    if head is not None:
        known = inspect.signature(backend.calculator).parameters.values()
        if not any(each.name == "head" or each.kind == each.VAR_KEYWORD for each in known):
            raise BackendError(f"models of {backend.name} have no heads to choose by --head")
        options["head"] = head
    try:
        return backend.calculator(model, **options)
    except (BackendError, OSError, ValueError):  # these have a message of their own
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{model} cannot be read as a model of {backend.name}: {type(error).__name__}: {reason}"
        ) from error
