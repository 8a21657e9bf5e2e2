"""Tables of numbers that are made once, and serve every later call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

Table = TypeVar("Table")


def kept_tables(
    at_most: int,
) -> Callable[[Callable[..., Table]], functools._lru_cache_wrapper[Table]]:
    """A decorator of functions that make tensors of numbers: it keeps what the last calls gave.

    The tensors are made as if nothing was going on around the call. Otherwise those made in
    ``torch.inference_mode`` could not be used for training later, and those made within a
    transform of ``torch.func`` could not be used once it has ended.

    Args:
        at_most: for how many different arguments results are kept. Arguments have to be hashable,
            and must not be tensors.
    """

    def keeping(make: Callable[..., Table]) -> functools._lru_cache_wrapper[Table]:
        @functools.lru_cache(maxsize=at_most)
        @functools.wraps(make)
        def once(*arguments: object) -> Table:
            with torch._C._DisableFuncTorch(), torch.inference_mode(False):
                return make(*arguments)

        return once

    return keeping
