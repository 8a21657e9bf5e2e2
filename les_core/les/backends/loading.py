"""Models that calculators are given, and calculators of model files, of whichever backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from les.backends.interface import Backend, BackendError
from les.backends.models import model_path

#: Options that not all backends know -> what their models lack then.
_OPTIONAL = {
    "head": "heads to choose",
    "acoustic_sum": "acoustic sums to spread",
    "eps_inf": "charges to scale",
    "skin": "neighbours to keep",
}

Model = TypeVar("Model")


def model_given(
    model: Any, load: Callable[..., Any], kind: type[Model], name: str, *, allow_pickle: bool
) -> Model:
    """The model that a calculator was given: itself, or what is in its file.

    Args:
        model: a model or a model file.
        load: what reads a file, with ``allow_pickle``.
        kind: the class of models.
        name: what a model is called, for the message.
        allow_pickle: whether the file may run code.

    Raises:
        TypeError: for what is no such model.
        OSError, ValueError: as ``load``.
    """
    if isinstance(model, (str, Path)):
        model = load(model, allow_pickle=allow_pickle)
    if not isinstance(model, kind):
        raise TypeError(f"`model` must be a {name}, got {type(model).__name__}")
    return model


def load_calculator(backend: Backend, model: str | Path, **options: Any) -> Any:
    """The calculator of a model file.

    Args:
        backend: whose model it is.
        model: the file, or the name of a model, of ``les models list`` or of upstream.
        options: those of ``Backend.calculator``. ``head``, ``acoustic_sum``, ``eps_inf`` and
            ``skin`` may be ``None``, where they are not asked for; not all backends know them.

    Raises:
        BackendError: if upstream cannot be used here, or for an option that the backend does not
            know.
        OSError: if the file is missing or may not be read.
        ValueError: if it is damaged or no model; the message names it.
    """
    model = model_path(model)
    known = inspect.signature(backend.calculator).parameters.values()
    any_other = any(each.kind == each.VAR_KEYWORD for each in known)
    for name, lacking in _OPTIONAL.items():
        if options.get(name) is None:
            options.pop(name, None)
        elif not any_other and all(each.name != name for each in known):
            option = "--" + name.replace("_", "-")
            raise BackendError(f"models of {backend.name} have no {lacking} by {option}")
    named = any(str(model).endswith(suffix) for suffix in backend.model_suffixes)
    if named and backend.problem() is not None and not Path(model).exists():
        # A wrong name is told before what would have to be installed to read the file.
        raise FileNotFoundError(f"no model file {model}")
    try:
        return backend.calculator(model, **options)
    except (BackendError, OSError, ValueError):  # these have a message of their own
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{model} cannot be read as a model of {backend.name}: {type(error).__name__}: {reason}"
        ) from error
