"""Settings of LES in nequip, as they stand in configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from les import LESConfig
from les.config import refuse_unknown

#: Settings beyond those of ``les.LESConfig``.
OWN_SETTINGS: Final = ("boundary", "max_cell", "compute_bec")

#: Fields of ``les.LESConfig`` that follow from the model.
FROM_THE_MODEL: Final = ("use_atomwise", "n_features")


def core_config(settings: Mapping[str, Any], n_features: int = 1) -> LESConfig:
    """Configuration of the sum and the charge readout for a model with ``n_features``.

    Settings of :data:`OWN_SETTINGS` are left alone.

    Raises:
        ValueError: for unknown settings, those that follow from the model, and values that are
            out of range.
    """
    for name in FROM_THE_MODEL:
        if name in settings:
            raise ValueError(f"`{name}` follows from the model and cannot be set")
    core = {field.name for field in dataclasses.fields(LESConfig)} - set(FROM_THE_MODEL)
    refuse_unknown(settings, core | set(OWN_SETTINGS))
    own = {name: value for name, value in settings.items() if name in core}
    return LESConfig(**own, use_atomwise=True, n_features=n_features)
