"""Settings of LES in nequip, as they stand in configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from les import LESConfig

#: Settings beyond those of ``les.LESConfig``.
OWN_SETTINGS: Final = ("boundary", "max_cell", "compute_bec")

#: Fields of ``les.LESConfig`` that follow from the model.
FROM_THE_MODEL: Final = ("use_atomwise", "n_features")


def core_config(settings: Mapping[str, Any], n_features: int = 1) -> LESConfig:
    """Configuration of the sum and the charge readout for a model with ``n_features``.

    Raises:
        ValueError: for unknown settings, those that follow from the model, and values that are
            out of range.
    """
    for name in FROM_THE_MODEL:
        if name in settings:
            raise ValueError(f"`{name}` follows from the model and cannot be set")
    return LESConfig.from_dict({**settings, "use_atomwise": True, "n_features": n_features})
