"""LES for NequIP and Allegro: one module for the slot ``pair_potential`` of their models.

``import les_nequip`` needs nequip only when one of the names below is used. This file is copied
into what ``nequip-package`` writes, together with all that its import statements name, which
is why it has so few.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "LES",
    "AddLES",
    "ChargeParamGroups",
    "ChargesFirst",
    "ComputeResponses",
    "FitAtomicEnergies",
    "LESCalculator",
    "PairPotentials",
    "SecondStage",
    "TrainedModel",
    "WithResponses",
    "load_model",
    "save_model",
]

_MODULES = {
    "AddLES": "les_nequip.fine_tuning",
    "ChargeParamGroups": "les_nequip.charge_training",
    "ChargesFirst": "les_nequip.charge_training",
    "ComputeResponses": "les_nequip.callback",
    "FitAtomicEnergies": "les_nequip.atomic_energies",
    "LES": "les_nequip.module",
    "LESCalculator": "les_nequip.calculator",
    "PairPotentials": "les_nequip.chain",
    "SecondStage": "les_nequip.stages",
    "TrainedModel": "les_nequip.trained",
    "WithResponses": "les_nequip.metrics",
    "load_model": "les_nequip.model_files",
    "save_model": "les_nequip.model_files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("les_nequip.backend").NequIPBackend().require()
    return getattr(importlib.import_module(_MODULES[name]), name)
