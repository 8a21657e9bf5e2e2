"""Options of training on responses: dipoles and Born effective charges."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from les.config import LESConfig
from les.response.labels import RESPONSES
from les.training.ranges import weight


def add_responses(parser: argparse.ArgumentParser) -> None:
    """Add the options of responses that a model with LES can be trained on.

    An option of such a name that ``parser`` has already gets this meaning.
    """
    known = {text: action for action in parser._actions for text in action.option_strings}
    group = parser.add_argument_group("responses")
    for label, unit in (("bec", "e"), ("dipole", "e A")):
        what = RESPONSES[label]
        options: dict[str, dict[str, Any]] = {
            f"--{label}_key": {
                "help": f"key of {what} [{unit}]; default: REF_{label}, or without REF_"
            },
            f"--{label}_weight": {
                "type": weight,
                "help": f"weight of the mean squared error of {what} in the loss; default: none",
            },
        }
        for option, settings in options.items():
            if option in known:
                vars(known[option]).update(default=None, **settings)
            else:
                group.add_argument(option, **settings)


def response_weights(
    options: argparse.Namespace, labels: Iterable[str] = tuple(RESPONSES)
) -> dict[str, float]:
    """Label -> weight of the responses in the loss, of those that have one.

    Args:
        options: of a parser with :func:`add_responses`.
        labels: the responses whose options have this meaning.

    Raises:
        ValueError: for a weight of zero, and a key of a label without a weight, which would have
            no effect.
    """
    weights = {label: getattr(options, f"{label}_weight") for label in labels}
    for label, value in weights.items():
        if value == 0:
            raise ValueError(f"--{label}_weight 0 has no effect: leave it out, or give a weight")
        if getattr(options, f"{label}_key") is not None and not value:
            raise ValueError(
                f"--{label}_key has no effect without --{label}_weight, the weight in the loss"
            )
    return {label: value for label, value in weights.items() if value}


def check_responses(weights: Iterable[str], config: LESConfig | None) -> None:
    """Raise ``ValueError`` if a model cannot be trained on the responses that have ``weights``.

    Args:
        weights: labels of responses with a weight in the loss.
        config: how the model does its long-range part, ``None`` without LES.
    """
    for label in weights:
        if config is None:
            raise ValueError(f"--{label}_weight needs a model with charges: train with --les")
        if config.n_channels > 1:
            raise ValueError(
                f"--{label}_weight needs a model with one charge on each atom, this has "
                f"{config.n_channels} (`n_channels`)"
            )
