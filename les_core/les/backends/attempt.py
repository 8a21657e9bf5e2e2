"""What is done with one structure of a file, with errors that say which structure it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from les.data.extxyz import DataError

Result = TypeVar("Result")


class BadStructureError(ValueError):
    """A structure cannot be read or evaluated; the message names file, frame and reason."""


def attempt(where: str, load: Callable[[], Any], use: Callable[[Any], Result]) -> Result:
    """``use(load())``, whose errors name the structure.

    Args:
        where: ``"<file>: frame <n>"``.
        load: reads the structure, see ``les.data.structure_files.entries``.
        use: what is done with it.

    Raises:
        BadStructureError: for whatever is wrong with the structure, or the model makes of it.
        OSError, MemoryError, torch.OutOfMemoryError: which are not the fault of the structure.
    """
    try:
        return use(load())
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # upstreams raise many kinds; what matters is where
        if "can't allocate memory" in str(error):  # torch's, on the CPU
            raise MemoryError(f"{where}: {error}") from error
        raise BadStructureError(_reason(where, error)) from error


def _reason(where: str, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)  # names the place already
    own = isinstance(error, (ValueError, RuntimeError))
    return f"{where}: {error}" if own else f"{where}: {type(error).__name__}: {error}"
