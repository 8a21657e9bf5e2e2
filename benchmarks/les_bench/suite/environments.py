"""Which Python interpreter runs a model: upstreams exclude one another."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from les.backends import BackendError, get_backend

#: Where nox makes the environments, below the folder of a clone.
DEFAULT_FOLDER = Path(".nox")


def environment_names(model: str) -> list[str]:
    """Names that the environment of a model may have, the best first.

    They are the model's own and that of its adapter, as Allegro shares the one of NequIP.
    """
    adapter = get_backend(model).package.removeprefix("les_")
    return list(dict.fromkeys([model, adapter]))


def interpreter(
    model: str, folder: Path | None = None, explicit: Mapping[str, Path] | None = None
) -> Path:
    """The interpreter that is to run ``model``.

    Args:
        model: name of a backend.
        folder: folder with an environment for each model, ``folder/mace`` and so on; ``.nox`` by
            default, which need not be there: then it is the interpreter that runs this, which
            must have upstream.
        explicit: model -> interpreter, or its environment; these come before all others.

    Raises:
        BackendError: if there is none; the message says where it was looked for.
    """
    given = (explicit or {}).get(model)
    if given is not None:
        found = _program(given) if given.is_dir() else given
        if found is None or not found.is_file():
            raise BackendError(f"{model}: {given} is no interpreter and no environment")
        return found.absolute()
    names = environment_names(model)
    places = [(folder or DEFAULT_FOLDER) / name for name in names]
    for place in places:
        if (program := _program(place)) is not None:
            return program.absolute()
    looked = " and ".join(map(str, places))
    problem = get_backend(model).problem()
    if problem is None and folder is None:
        return Path(sys.executable)
    if folder is not None:
        raise BackendError(f"{model}: there is no environment {looked}")
    raise BackendError(f"{model}: there is no environment {looked}, and here {problem}")


def parse_interpreters(texts: Sequence[str]) -> dict[str, Path]:
    """``MODEL=PATH`` texts as a table.

    Raises:
        ValueError: for a text of another form.
    """
    table = {}
    for text in texts:
        model, equals, path = text.partition("=")
        if not (model and equals and path):
            raise ValueError(f"--python must be MODEL=PATH, got {text!r}")
        table[model] = Path(path)
    return table


def _program(environment: Path) -> Path | None:
    """The interpreter of an environment, if it is one."""
    places = (environment / "bin" / "python", environment / "Scripts" / "python.exe")
    return next((place for place in places if place.is_file()), None)
