"""CACE with LES: the representation, models on it, their calculator and files.

``import les_cace`` needs matscipy and ASE only when one of the names below is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from les.backends import lazy_attribute

if TYPE_CHECKING:
    from les_cace.calculator import LESCalculator
    from les_cace.checkpoint import load_model, save_model
    from les_cace.model import CACE
    from les_cace.published import load_published
    from les_cace.representation import Representation

__all__ = ["CACE", "LESCalculator", "Representation", "load_model", "load_published", "save_model"]

_MODULES = {
    "CACE": "les_cace.model",
    "LESCalculator": "les_cace.calculator",
    "Representation": "les_cace.representation",
    "load_model": "les_cace.checkpoint",
    "load_published": "les_cace.published",
    "save_model": "les_cace.checkpoint",
}


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, "cace", _MODULES, name)
