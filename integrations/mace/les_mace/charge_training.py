"""Training the charges first, or at a learning rate of their own, in upstream's loop."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from mace.cli import run_train

from les.training.freezing import FrozenShortRange
from les_mace.replaced import replaced, train_module


@contextlib.contextmanager
def charges_first(epochs: int | None) -> Iterator[None]:
    """Let upstream train only the charges in the first ``epochs``; ``None`` changes nothing."""
    if epochs is None:
        yield
        return
    train_one_epoch = train_module.train_one_epoch
    known: list[FrozenShortRange] = []

    @functools.wraps(train_one_epoch)
    def train(*args: Any, **kwargs: Any) -> Any:
        model = kwargs["model"]
        if not known:
            known.append(FrozenShortRange(model, model.les_readouts.parameters(), epochs))
        known[0].start_epoch(kwargs["epoch"])
        return train_one_epoch(*args, **kwargs)

    with replaced(train_module, "train_one_epoch", train):
        yield


@contextlib.contextmanager
def charges_at(learning_rate: float | None) -> Iterator[None]:
    """Let upstream's optimiser train the charges at this rate; ``None`` changes nothing.

    In upstream's stage two all weights have the rate of that.
    """
    if learning_rate is None:
        yield
        return
    get_params_options = run_train.get_params_options

    @functools.wraps(get_params_options)
    def options(*args: Any, **kwargs: Any) -> Any:
        found = get_params_options(*args, **kwargs)
        (group,) = (each for each in found["params"] if each["name"] == "les_readouts")
        group["lr"] = learning_rate
        return found

    with replaced(run_train, "get_params_options", options):
        yield
