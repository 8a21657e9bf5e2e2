"""Lists of derivatives as ``derivatives.h`` reads them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from les.transfer import Derivative


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def listed(derivatives: tuple[Derivative, ...]) -> Tensor:
    """``[n_derivatives, 3]``, kept for the next call."""
    return torch.tensor(derivatives, dtype=torch.int64, device="cpu")
