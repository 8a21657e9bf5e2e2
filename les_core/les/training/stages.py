"""Stages of a training, each with its own weights in the loss."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from les.keys import refuse_unknown

#: What the option looks like: forces first, then the energy as well.
EXAMPLE = "[{epochs: 75, energy: 1, forces: 100}, {epochs: 25, energy: 1000, forces: 100}]"


@dataclass(frozen=True)
class Stage:
    """Epochs with the same weights in the loss.

    Raises:
        ValueError: for no epochs, and weights that are negative or all zero.
    """

    epochs: int
    #: Label -> weight of its mean squared error.
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise ValueError(
                f"`epochs` of a stage must be a whole number of at least 1, got {self.epochs!r}"
            )
        values = self.weights.values()
        if not all(0.0 <= x < math.inf for x in values) or not any(values):
            raise ValueError(f"a stage needs weights >= 0, not all zero, got {dict(self.weights)}")


def stage_list(labels: Collection[str]) -> Callable[[str], list[dict[str, Any]]]:
    """The type of an option ``--stages``, a list as in :data:`EXAMPLE`, which it checks.

    Args:
        labels: what can be trained on, and have a weight.
    """

    def parse(text: str) -> list[dict[str, Any]]:
        import yaml

        try:
            values = yaml.safe_load(text)
            if not isinstance(values, list) or not values:
                raise ValueError(f"must be a list such as {EXAMPLE}, got {values!r}")
            for value in values:
                if not isinstance(value, dict) or "epochs" not in value:
                    raise ValueError(f"a stage must have `epochs`, got {value!r}")
                refuse_unknown(value, {"epochs", *labels})
            to_stages(values)
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise argparse.ArgumentTypeError(f"{error} (in {text!r})") from error
        return values

    return parse


def to_stages(
    values: Sequence[Mapping[str, Any]], epochs: int | None = None, **further: float
) -> list[Stage]:
    """The stages of an option ``--stages``.

    Args:
        values: what :func:`stage_list` has made of the option.
        epochs: how many epochs there are in all, shared out in the proportions of ``values``, as
            which there are without.
        further: label -> weight in all stages.
    """
    stages = [
        Stage(
            value["epochs"],
            {label: float(x) for label, x in value.items() if label != "epochs"} | further,
        )
        for value in values
    ]
    if epochs is None:
        return stages
    total = sum(stage.epochs for stage in stages)
    ends = itertools.accumulate((stage.epochs for stage in stages), initial=0)
    scaled = [round(epochs * end / total) for end in ends]
    sizes = [after - before for before, after in itertools.pairwise(scaled)]
    return [Stage(n, stage.weights) for n, stage in zip(sizes, stages) if n > 0]


def weights_by_epoch(stages: Sequence[Stage]) -> list[Mapping[str, float]]:
    """The weights of each epoch, in the order of training."""
    return [stage.weights for stage in stages for _ in range(stage.epochs)]


def start_of_the_last(stages: Sequence[Stage]) -> int | None:
    """The epoch in which the last of several stages begins; ``None`` for a single one."""
    return sum(stage.epochs for stage in stages[:-1]) or None
