"""The option of training in an external field."""

from __future__ import annotations

import argparse
import logging

from les.config import LESConfig
from les.data.external_field import FIELD_KEYS

logger = logging.getLogger("les")


def add_field_key(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the key of the external field."""
    parser.add_argument(
        "--external_field_key",
        help="key of the external field [V/A] of a structure, for a model with the setting "
        f"`external_field`; default: {' or '.join(FIELD_KEYS)}",
    )


def check_field_key(options: argparse.Namespace, config: LESConfig | None) -> None:
    """Refuse a key of the field of a model that takes none; say that others do not know it.

    Args:
        options: of a parser with :func:`add_field_key`.
        config: how the model does its long-range part, ``None`` without LES.

    Raises:
        ValueError: for a key of a model that does not take a field.
    """
    takes = config is not None and config.external_field
    if options.external_field_key is not None and not takes:
        raise ValueError(
            "--external_field_key has no effect on a model that takes no field: ask for it with "
            "--les --les_arguments '{external_field: true}'"
        )
    if options.external_field_key is not None and options.external_field_key not in FIELD_KEYS:
        logger.warning(
            "--external_field_key %s is for the files of this training: `les predict` and "
            "calculators read the field from %s, so that structures with another name of it are "
            "taken to be in none",
            *(options.external_field_key, " or ".join(FIELD_KEYS)),
        )
