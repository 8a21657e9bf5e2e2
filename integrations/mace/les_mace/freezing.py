"""Training the charges first, in upstream's loop."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

from les.training.freezing import FrozenShortRange
from les_mace.replaced import replaced

# Upstream's package has a function of the name of this module.
_train = importlib.import_module("mace.tools.train")


@contextlib.contextmanager
def charges_first(epochs: int | None) -> Iterator[None]:
    """Let upstream train only the charges in the first ``epochs``; ``None`` changes nothing."""
    if epochs is None:
        yield
        return
    train_one_epoch = _train.train_one_epoch
    known: list[FrozenShortRange] = []

    @functools.wraps(train_one_epoch)
    def train(*args: Any, **kwargs: Any) -> Any:
        model = kwargs["model"]
        if not known:
            known.append(FrozenShortRange(model, model.les_readouts.parameters(), epochs))
        known[0].start_epoch(kwargs["epoch"])
        return train_one_epoch(*args, **kwargs)

    with replaced(_train, "train_one_epoch", train):
        yield
