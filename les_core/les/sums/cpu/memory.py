"""Memory for large arrays of the kernels."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Bytes from which on large pages are worth asking for.
LARGE = 1 << 22


def empty(compiled: ctypes.CDLL, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor for what ``compiled`` kernels write, in large pages of memory if it is large.

    The system gives memory page by page, and as zeros: with small pages that takes longer than most
    of what is done with a mesh.
    """
    values = torch.empty(shape, dtype=dtype, device="cpu")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes >= LARGE:
        compiled.les_large_pages(ctypes.c_void_p(values.data_ptr()), ctypes.c_int64(n_bytes))
    return values
