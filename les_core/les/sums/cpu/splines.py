"""Spreading and gathering with B-splines by compiled kernels; see :mod:`les.sums.bases.splines`."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from les.sums.bases.adjoint import Derivative
from les.sums.bases.bspline import ORDERS, pieces
from les.sums.cpu.library import MOST, call, library
from les.sums.cpu.threads import in_parallel
from les.sums.kept import kept


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_channels", "n_derivatives")),
        *((name, ctypes.c_int64) for name in ("order", "heights")),
        ("size", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("n_structures", "first", "last")),
        *((name, ctypes.c_void_p) for name in ("owner", "derivatives")),
    )


class SplineKernels:
    """Kernels for some atoms, a mesh and a list of derivatives.

    Args:
        compiled: as of ``library``.
        fractional: coordinates of the atoms ``[3, n_atoms]``.
        owner: mesh of each atom ``[n_atoms]``, or ``None`` for one mesh.
        shape: number of meshes, and of their points along each axis.
        order: of the splines.
        derivatives: list of derivatives.
    """

    def __init__(
        self,
        compiled: ctypes.CDLL,
        fractional: Tensor,
        owner: Tensor | None,
        shape: tuple[int, int, int, int],
        order: int,
        derivatives: tuple[Derivative, ...],
    ) -> None:
        self.compiled = compiled
        # Kept as long as the kernels look at them.
        self.fractional = fractional.contiguous()
        self.owner = None if owner is None else owner.contiguous()
        self.shape = shape
        heights = 1 + max(map(max, derivatives))
        self.polynomials = _polynomials(order, heights, fractional.dtype)
        self.listed = _listed(derivatives)
        self.settings = (order, heights)

    def spread(self, values: Tensor, mesh: Tensor) -> None:
        """Add ``values [n_derivatives, n_channels, n_atoms]`` to ``mesh [n_channels, ...]``."""
        values = values.contiguous()

        def planes(first: int, last: int) -> None:
            task = self._task(values.shape[1], first, last)
            arrays = (self.polynomials, self.fractional, values, mesh)
            call(self.compiled.les_spread, task, *arrays)

        # No two threads write to the same plane.
        in_parallel(planes, self.shape[1], work=values.shape[2] * self.settings[0] ** 3)

    def gather(self, components: Tensor) -> Tensor:
        """Values ``[n_derivatives, n_channels, n_atoms]`` of ``components [n_channels, ...]``."""
        components = components.contiguous()
        n_channels, n_atoms = components.shape[0], self.fractional.shape[1]
        values = components.new_empty([self.listed.shape[0], n_channels, n_atoms])

        def atoms(first: int, last: int) -> None:
            task = self._task(n_channels, first, last)
            arrays = (self.polynomials, self.fractional, components, values)
            call(self.compiled.les_gather, task, *arrays)

        in_parallel(atoms, n_atoms, work=n_atoms * self.settings[0] ** 3)
        return values

    def _task(self, n_channels: int, first: int, last: int) -> _Task:
        return _Task(
            self.fractional.shape[1],
            n_channels,
            self.listed.shape[0],
            *self.settings,
            self.shape[1:],
            self.shape[0],
            first,
            last,
            None if self.owner is None else self.owner.data_ptr(),
            self.listed.data_ptr(),
        )


def spline_kernels(
    fractional: Tensor,
    owner: Tensor | None,
    shape: tuple[int, int, int, int],
    order: int,
    derivatives: tuple[Derivative, ...],
) -> SplineKernels | None:
    """Kernels with these arguments of :class:`SplineKernels`, where there are some."""
    if max(map(max, derivatives)) >= MOST or order not in ORDERS:
        return None
    compiled = library(fractional.device, fractional.dtype)
    if compiled is None:
        return None
    return SplineKernels(compiled, fractional, owner, shape, order, derivatives)


@kept(at_most=64)
def _polynomials(order: int, heights: int, dtype: torch.dtype) -> Tensor:
    """``[heights, power, point]``; the first point sees the last piece of a spline."""
    return pieces(order, heights).flip(1).transpose(1, 2).to(dtype).contiguous()


@kept(at_most=64)
def _listed(derivatives: tuple[Derivative, ...]) -> Tensor:
    """The list as ``[n_derivatives, 3]``, kept for the next call."""
    return torch.tensor(derivatives, dtype=torch.int64, device="cpu")
