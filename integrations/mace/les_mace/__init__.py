"""LES for MACE: the model, its calculator, and training through mace-torch.

``import les_mace`` needs mace-torch only when one of the names below is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from les.backends import lazy_attribute

if TYPE_CHECKING:
    from les_mace.calculator import LESCalculator
    from les_mace.checkpoint import load_model, save_model
    from les_mace.model import MACELES

__all__ = ["MACELES", "LESCalculator", "load_model", "save_model"]

_MODULES = {
    "LESCalculator": "les_mace.calculator",
    "MACELES": "les_mace.model",
    "load_model": "les_mace.checkpoint",
    "save_model": "les_mace.checkpoint",
}


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, "mace", _MODULES, name)
