"""LES for NequIP and Allegro: one module for the slot ``pair_potential`` of their models.

This package is an extension of nequip: every ``import nequip`` loads it. So it only registers
names, and whatever goes wrong here must not keep nequip from working. It is also copied into
every file of ``nequip-package`` together with all that its import statements name, which is
why it has so few.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__all__ = ["LES", "AddLES", "LESCalculator", "PairPotentials"]

_MODULES = {
    "AddLES": "les_nequip.fine_tuning",
    "LES": "les_nequip.module",
    "LESCalculator": "les_nequip.calculator",
    "PairPotentials": "les_nequip.chain",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("les_nequip.backend").NequIPBackend().require()
    return getattr(importlib.import_module(_MODULES[name]), name)


def _register() -> None:
    """Tell nequip about our fields and compile targets, if it is there and knows such things."""
    try:
        importlib.import_module("les_nequip.registration").register()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("nequip", "les_nequip"):
            logging.getLogger("les").warning("LES is not available in nequip: %s", error)
    except Exception as error:  # of another nequip than those this was written for
        logging.getLogger("les").warning("LES is not available in nequip: %r", error)


_register()
