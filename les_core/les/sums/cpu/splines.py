"""Spreading and gathering with splines by compiled kernels; see :mod:`les.sums.bases.splines`."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import Derivative
from les.sums.bases.bspline import ORDERS, pieces
from les.sums.bases.splines import MeshShape, SplineMesh
from les.sums.cpu.library import MOST, call
from les.sums.cpu.memory import empty
from les.sums.cpu.threads import in_parallel
from les.sums.tables import kept_tables


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_channels", "n_derivatives")),
        *((name, ctypes.c_int64) for name in ("order", "heights")),
        ("size", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("n_structures", "first", "last")),
        *((name, ctypes.c_void_p) for name in ("owner", "derivatives")),
    )


class CompiledSplines(NamedTuple):
    """As ``bases.splines.SplineMesh``, which does what the kernels have no room for."""

    #: ``[3, n_atoms]``.
    fractional: Tensor
    #: Structure of each atom ``[n_atoms]``; ``None`` for one structure.
    owner: Tensor | None
    shape: MeshShape
    order: int
    #: The kernels that ``library`` returned.
    compiled: ctypes.CDLL

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Densities ``[n_channels, n_structures, k1, k2, k3]`` of values at atoms."""
        kernels = self.kernels(derivatives)
        if kernels is None:
            return SplineMesh(*self[:4]).spread(values, derivatives)
        mesh = empty(self.compiled, [values.shape[1], *self.shape], values.dtype).zero_()
        kernels.spread(values, mesh)
        return mesh

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        kernels = self.kernels(derivatives)
        if kernels is None:
            return SplineMesh(*self[:4]).gather(components, derivatives)
        return kernels.gather(components)

    def of_atoms(self, atoms: slice, owner: Tensor, shape: MeshShape) -> CompiledSplines:
        """Splines of some of the atoms, which have meshes of their own."""
        return self._replace(fractional=self.fractional[:, atoms], owner=owner, shape=shape)

    def kernels(self, derivatives: tuple[Derivative, ...]) -> _SplineKernels | None:
        """Kernels for a list of derivatives; ``None`` if they have no room for it."""
        if max(map(max, derivatives)) >= MOST or self.order not in ORDERS:
            return None
        return _SplineKernels(self, derivatives)


class _SplineKernels:
    """Kernels for some atoms, a mesh and a list of derivatives."""

    def __init__(self, splines: CompiledSplines, derivatives: tuple[Derivative, ...]) -> None:
        fractional, owner, self.shape, order, self.compiled = splines
        # Kept as long as the kernels look at them.
        self.fractional = fractional.contiguous()
        self.owner = None if owner is None else owner.contiguous()
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


@kept_tables(at_most=64)
def _polynomials(order: int, heights: int, dtype: torch.dtype) -> Tensor:
    """``[heights, power, point]``; the first point sees the last piece of a spline."""
    return pieces(order, heights).flip(1).transpose(1, 2).to(dtype).contiguous()


@kept_tables(at_most=64)
def _listed(derivatives: tuple[Derivative, ...]) -> Tensor:
    """The list as ``[n_derivatives, 3]``, kept for the next call."""
    return torch.tensor(derivatives, dtype=torch.int64, device="cpu")
