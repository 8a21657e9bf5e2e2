"""What the file of a model says about LES: the module writes it, and the calculator reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from les import LESConfig
from les.moment_readout import IN_GRAPHS
from les_nequip.born import bec_obstacle
from les_nequip.in_field import FIELD_IN_GRAPHS
from les_nequip.keys import BEC_METHOD, METADATA_KEY

logger = logging.getLogger("les")


def metadata_of(les: Any, *, exporting: bool) -> dict[str, str]:
    """What the module ``les`` adds to the metadata of its model.

    Args:
        les: the module.
        exporting: whether ``nequip-compile`` asks. A warning says then if the program will have no
            Born effective charges.

    Raises:
        ValueError: for a model that cannot be compiled, where ``nequip-compile`` asks.
    """
    if les.config.reads_moments and exporting:
        raise ValueError(IN_GRAPHS)
    if les.config.external_field and exporting:
        raise ValueError(FIELD_IN_GRAPHS)
    if les.charge_states is not None and exporting:
        raise ValueError(
            f"a model that embeds the {les.config.embedded[0].replace('_', ' ')} of a "
            "structure cannot be compiled by nequip-compile: its programs do not pass it; use "
            "the model as it was trained"
        )
    obstacle = bec_obstacle(les)
    if obstacle is not None and exporting:
        logger.warning("the compiled model has no Born effective charges: %s", obstacle)
    method = {BEC_METHOD: None if obstacle else les.bec_method}
    settings = {**les.reach.to_dict(), **les.config.to_dict(), **method}
    return {METADATA_KEY: json.dumps(settings)}


def settings_of(
    metadata: Mapping[str, Any], stored: dict[str, Any] | None, les_modules: Sequence[Any]
) -> dict[str, Any] | None:
    """What a model says about LES, ``None`` for one without.

    Args:
        metadata: those of the model, where it has modules of LES.
        stored: what the file of a compiled model says.
        les_modules: the modules of LES of the model; none of a compiled one.
    """
    if stored is not None or not les_modules:
        return stored
    settings: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return settings


def config_of(settings: Mapping[str, Any] | None) -> LESConfig | None:
    """The configuration among the settings of a model, ``None`` for one without LES."""
    if settings is None:
        return None
    names = LESConfig().to_dict()
    return LESConfig.from_stored({key: x for key, x in settings.items() if key in names})
