"""The backends that installed packages register, by name and by the endings of their files."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from les.backends.interface import Backend, BackendError
from les.config_files import read_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Entry-point group in which adapters register their ``Backend`` subclass.
ENTRY_POINT_GROUP = "les.backends"


def lazy_attribute(package: str, backend: str, modules: Mapping[str, str], name: str) -> Any:
    """An attribute of an adapter's package, whose module is imported when it is first used.

    Args:
        package: name of the package.
        backend: whose upstream the modules need.
        modules: attribute -> module that has it.
        name: name of the attribute.

    Raises:
        AttributeError: for a name that ``modules`` lacks.
        BackendError: if upstream cannot be used here; the message says what to install.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    get_backend(backend).require()
    return getattr(importlib.import_module(modules[name]), name)


def backend_names() -> list[str]:
    """Names of all registered backends, whether or not their upstream is installed."""
    return sorted({entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)})


def get_backend(name: str) -> Backend:
    """The registered backend ``name``.

    Raises:
        BackendError: if no backend has this name; the message names the closest one.
    """
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return entry.load()()
    names = backend_names()
    closest = get_close_matches(name, names, n=1)
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    raise BackendError(f"unknown backend {name!r}{hint} (known: {', '.join(names) or 'none'})")


def config_path(name: str, backend: str | None = None) -> Path:
    """The shipped training configuration ``MODEL/SYSTEM``, as ``les config list`` names it.

    Args:
        name: its name.
        backend: the model to be trained. A name that is only a ``SYSTEM`` belongs to this model;
            without ``backend`` it belongs to the only model that is installed here.

    Raises:
        ValueError: for an unknown name, for a name that several models have, and for a
            configuration of another model's training; the message lists the known names.
        BackendError: for an unknown backend.
    """
    model, slash, system = name.partition("/")
    if not slash:
        model, system = backend or _only_installed(name), name
    owner = get_backend(model)
    if backend not in (None, model) and get_backend(backend).package != owner.package:
        known = ", ".join(f"{backend}/{each}" for each in get_backend(backend).configs())
        raise ValueError(
            f"{name} is a configuration of {model}, and not of {backend} (known: {known})"
        )
    configs = owner.configs()
    if system not in configs:
        known = ", ".join(f"{model}/{each}" for each in configs)
        raise ValueError(f"no configuration {name!r} (known: {known})")
    return configs[system]


def _only_installed(system: str) -> str:
    """The backend that alone is installed here of those with a configuration for ``system``.

    Raises:
        ValueError: where there are several, or none.
    """
    backends = [get_backend(name) for name in backend_names()]
    backends = [each for each in backends if system in each.configs()]
    installed = [each.name for each in backends if each.version() is not None]
    if len(installed) == 1:
        return installed[0]
    there = ", ".join(f"{each.name}/{system}" for each in backends)
    hint = f"it may be {there}" if there else "see `les config list`"
    raise ValueError(f"the name must be MODEL/SYSTEM, got {system!r}; {hint}")


def owner_of(keys: Collection[str], backend: str) -> str | None:
    """The backend whose shipped configurations have ``keys``, other than those of ``backend``.

    Args:
        keys: what ``backend`` does not know.
        backend: a registered one, or the name of none.
    """
    names = backend_names()
    if backend not in names or not keys:
        return None
    own = get_backend(backend).package
    for other in map(get_backend, names):
        known = {key for path in other.configs().values() for key in read_yaml(path)}
        if other.package != own and known.issuperset(keys):
            return other.name
    return None
