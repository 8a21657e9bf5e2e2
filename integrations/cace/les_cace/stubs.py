"""Pickled modules without the packages that wrote them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

#: Packages whose classes and functions are loaded as they are.
REAL_PACKAGES = ("numpy", "torch")

#: What is loaded as it is of other modules.
REAL_NAMES = {
    "_codecs": ("encode",),  # bytes, in the protocol of pickles that torch writes
    "builtins": ("bytearray", "complex", "frozenset", "range", "set", "slice"),
    "collections": ("OrderedDict", "defaultdict", "deque"),
    "copyreg": ("_reconstructor",),
}


class Stub:
    """Stands for a class, or a function, of a package that is not needed to read what it holds.

    Its attributes are those of the pickled object, parameters, buffers and modules included.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: What a function was called with, or a class constructed from.
        self.called_with = args
        self.__dict__.update(kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for group in ("_parameters", "_buffers", "_modules"):
                content = self.__dict__.get(group, {})
                if name in content:
                    return content[name]
        raise AttributeError(f"its {type(self).__name__} has no {name!r}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # of Python 2, and protocol 2
        if module.split(".")[0] in REAL_PACKAGES or name in REAL_NAMES.get(module, ()):
            return super().find_class(module, name)
        return type(name, (Stub,), {"__module__": module})


class _PickleModule:
    """What ``torch.load`` wants of a module for pickles."""

    Unpickler = _Unpickler
    load = staticmethod(pickle.load)


def read_stubs(path: str | Path) -> Any:
    """What ``torch.save`` has written to ``path``, with a :class:`Stub` for each unknown class.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PickleModule)
    except Exception as error:  # of many kinds; the file is what matters
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def kind_of(value: Any) -> str:
    """Name of a function, or of the class of an object."""
    return str(getattr(value, "__name__", type(value).__name__))


def parts_of(module: Any) -> Iterator[Any]:
    """``module`` and all modules in it."""
    yield module
    for part in getattr(module, "_modules", {}).values():
        if part is not None:
            yield from parts_of(part)
