"""Settings of LES in nequip, as they stand in configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from les import LESConfig
from les.legacy import stored_settings

#: Settings beyond those of ``les.LESConfig``; they are arguments of ``les_nequip.LES``.
OWN_SETTINGS: Final = ("boundary", "max_cell", "compute_bec", "compute_dipole")


def core_config(settings: Mapping[str, Any], n_features: int = 1) -> LESConfig:
    """Configuration of the sum and the charge readout for a model with ``n_features``.

    Settings stand in files of models, so that what they do not say means what it meant in earlier
    releases.

    Raises:
        ValueError: as ``les.LESConfig.for_features``.
    """
    return LESConfig.for_features(
        stored_settings(settings), n_features, also=OWN_SETTINGS, unused=()
    )
