"""Sums over atoms of products of cosines and sines by compiled kernels; see :mod:`les.waves`."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from les.native.derivatives import listed
from les.native.library import LANES, call, library
from les.native.threads import in_parallel
from les.transfer import Derivative

#: What the kernels may put on the stack, of which a thread may have no more than 512 kB.
MOST_NUMBERS = 2**15


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_rows", "n_atoms", "n_channels", "n_derivatives")),
        ("heights", ctypes.c_int64),
        ("size", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("width", "first", "last")),
        ("derivatives", ctypes.c_void_p),
        ("factors", ctypes.c_void_p * 3),
        ("fractional", ctypes.c_void_p),
    )


class WaveKernels:
    """Kernels for some atoms and a list of derivatives.

    Args:
        compiled: as of ``library``.
        fractional: coordinates of the atoms ``[n_rows, n_atoms, 3]``.
        factors: what cosines and sines are multiplied with in each derivative, from none to the
            highest one in the list, ``[n_derivatives, n]`` for each axis.
        derivatives: list of derivatives.
    """

    def __init__(
        self,
        compiled: ctypes.CDLL,
        fractional: Tensor,
        factors: list[Tensor],
        derivatives: tuple[Derivative, ...],
    ) -> None:
        self.compiled = compiled
        self.listed = listed(derivatives)
        # Kept as long as the kernels look at them.
        self.fractional = fractional.contiguous()
        self.factors = factors
        self.sizes = [values.shape[1] for values in factors]

    def spread(self, values: Tensor) -> Tensor:
        """Sums ``[n_channels, n_rows, n1, n2, n3]``.

        Of ``values [n_derivatives, n_channels, n_rows, n_atoms]``.
        """
        n1, n2, n3 = self.sizes
        values = values.contiguous()
        sums = values.new_zeros([values.shape[1], values.shape[2], n1, n2, _filled_up(n3)])
        self._run(self.compiled.les_wave_sums, values.shape[1], values, sums)
        return sums[..., :n3]

    def gather(self, components: Tensor) -> Tensor:
        """The transpose of :meth:`spread`."""
        n_channels, n3 = components.shape[0], components.shape[4]
        components = torch.nn.functional.pad(components, (0, _filled_up(n3) - n3)).contiguous()
        shape = [self.listed.shape[0], n_channels, *self.fractional.shape[:2]]
        values = components.new_empty(shape)
        self._run(self.compiled.les_wave_values, n_channels, components, values)
        return values

    def _run(self, kernel: Any, n_channels: int, *arrays: Tensor) -> None:
        n_rows, n_atoms, _ = self.fractional.shape
        sizes = self.sizes

        def rows(first: int, last: int) -> None:
            task = _Task(
                n_rows,
                n_atoms,
                n_channels,
                self.listed.shape[0],
                self.factors[0].shape[0],
                tuple(sizes),
                _filled_up(sizes[2]),
                first,
                last,
                self.listed.data_ptr(),
                tuple(values.data_ptr() for values in self.factors),
                self.fractional.data_ptr(),
            )
            call(kernel, task, *arrays)

        in_parallel(rows, n_rows, work=n_rows * n_atoms * sizes[0] * sizes[1] * sizes[2])


def wave_kernels(
    fractional: Tensor, factors: list[Tensor], derivatives: tuple[Derivative, ...]
) -> WaveKernels | None:
    """Kernels with these arguments of :class:`WaveKernels`, where there are some."""
    # Arrays of the kernels: for each derivative along an axis, and for each pair of those along
    # the first two.
    numbers = 8 * len(factors[0]) * sum(values.shape[1] + LANES for values in factors)
    numbers += 8 * len(derivatives) * (factors[2].shape[1] + LANES)
    if numbers > MOST_NUMBERS:
        return None
    compiled = library(fractional.device, fractional.dtype)
    return None if compiled is None else WaveKernels(compiled, fractional, factors, derivatives)


def _filled_up(size: int) -> int:
    return -(-size // LANES) * LANES
