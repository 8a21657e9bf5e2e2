"""LES for CHGNet: the model, its calculator, and training with upstream's Trainer.

``import les_chgnet`` needs chgnet only when one of the names below is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from les.backends import lazy_attribute

if TYPE_CHECKING:
    from les_chgnet.calculator import LESCalculator
    from les_chgnet.checkpoint import load_model, save_model
    from les_chgnet.graphs import GraphConverter
    from les_chgnet.model import CHGNetLES

__all__ = ["CHGNetLES", "GraphConverter", "LESCalculator", "load_model", "save_model"]

_MODULES = {
    "CHGNetLES": "les_chgnet.model",
    "GraphConverter": "les_chgnet.graphs",
    "LESCalculator": "les_chgnet.calculator",
    "load_model": "les_chgnet.checkpoint",
    "save_model": "les_chgnet.checkpoint",
}


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, "chgnet", _MODULES, name)
