"""Models: whose a file is, and those that come with adapters, which have a name and a card."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from les.backends.interface import Backend, BackendError
from les.backends.registry import backend_names, get_backend


class ShippedModel(NamedTuple):
    """A model that comes with an adapter, and what is said of it.

    Attributes:
        name: what stands for its file wherever a model is asked for.
        backend: the name of its backend.
        path: the file.
        card: what it was made of, its errors and where it holds, in Markdown.
    """

    name: str
    backend: str
    path: Path
    card: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What the card is made of, by name."""
        return dict(json.loads(self.card.with_suffix(".json").read_text(encoding="utf-8")))


def models_of(backend: Backend) -> dict[str, ShippedModel]:
    """The models that come with a backend, by name."""
    found = {}
    for suffix in backend.model_suffixes:
        for path in sorted(backend.model_folder().glob(f"*{suffix}")):
            name = path.name.removesuffix(suffix)
            found[name] = ShippedModel(name, backend.name, path, path.with_name(f"{name}.md"))
    return found


def shipped_models() -> dict[str, ShippedModel]:
    """All models that come with the backends, installed or not, by name.

    Raises:
        BackendError: for two models of one name.
    """
    found: dict[str, ShippedModel] = {}
    for backend in backend_names():
        for name, model in models_of(get_backend(backend)).items():
            if name in found:
                raise BackendError(
                    f"two models are called {name!r}: {found[name].path} and {model.path}"
                )
            found[name] = model
    return found


def model_path(model: str | Path) -> Path:
    """The file of a model: an existing file, or that of the shipped model with this name.

    Args:
        model: a file, or a name of ``les models list``. A file of that name takes precedence.

    Returns:
        The file. A text that is neither is returned unchanged, and fails when it is read.
    """
    path = Path(model)
    # Names have neither folders nor endings, so nothing is looked for where a file is named.
    if path.suffix or len(path.parts) != 1 or path.is_file():
        return path
    known = shipped_models().get(str(model))
    return path if known is None else known.path


def suggestion(name: str | Path) -> str:
    """What an error says behind a name that is nearly that of a shipped model; else nothing."""
    try:
        known = shipped_models()
    except BackendError:  # the error that this is said behind matters more
        return ""
    closest = get_close_matches(str(name), known, n=1)
    return f" (did you mean {closest[0]!r}?)" if closest else ""


def backend_of(model: str | Path) -> str:
    """Name of the backend that a model file belongs to, judged by the ending of its name.

    The longest ending counts: a backend may refine that of another. ``model`` may be the name of a
    model that comes with a backend.

    Raises:
        BackendError: if no backend has files with this ending.
    """
    model = model_path(model)
    backends = [get_backend(name) for name in backend_names()]
    found = [
        (len(suffix), backend.name)
        for backend in backends
        for suffix in backend.model_suffixes
        if str(model).endswith(suffix)
    ]
    if found:
        return max(found)[1]
    known = ", ".join(
        f"{b.name}: {' '.join(b.model_suffixes)}" for b in backends if b.model_suffixes
    )
    raise BackendError(
        f"the name {str(model)!r}{suggestion(model)} does not tell which backend the model is of; "
        f"say so with --backend ({known})"
    )
