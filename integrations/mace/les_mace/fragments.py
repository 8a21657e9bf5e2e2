"""Fragments in upstream's data, which have no place for them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mace.data import AtomicData

from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE
from les.fragments import UNTOLD

if TYPE_CHECKING:
    from mace.data import Configuration


def fragment_arrays(configuration: Configuration) -> dict[str, Any]:
    """The arrays that the frame of a configuration had, none where it did not tell any."""
    found = {name: configuration.properties.get(name) for name in (FRAGMENT, FRAGMENT_CHARGE)}
    labels = found[FRAGMENT]
    return {} if labels is None or np.all(labels == UNTOLD) else found


@contextlib.contextmanager
def fragments_in_data() -> Iterator[None]:
    """Let the data that upstream makes of its configurations have their fragments, too."""
    original = AtomicData.__dict__["from_config"]

    @functools.wraps(original.__func__)
    def from_config(cls: type[AtomicData], config: Any, *args: Any, **kwargs: Any) -> AtomicData:
        data = original.__func__(cls, config, *args, **kwargs)
        for name in (FRAGMENT, FRAGMENT_CHARGE):
            if (values := config.properties.get(name)) is not None:
                data[name] = torch.as_tensor(values)
        return data

    AtomicData.from_config = classmethod(from_config)
    try:
        yield
    finally:
        AtomicData.from_config = original
