"""Fourier transforms of meshes by compiled kernels; see :mod:`les.sums.bases.fourier`."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.cpu.library import LANES, call
from les.sums.cpu.memory import empty
from les.sums.cpu.threads import in_parallel
from les.sums.tables import kept_tables

#: Operations per mesh point that a transform costs along an axis.
WORK_PER_POINT = 8

Triple = tuple[int, int, int]


class _Task(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int64 * 3),
        ("extent", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("first", "last")),
        ("roots", ctypes.c_void_p * 3),
    )


class CompiledFourier(NamedTuple):
    """``les.sums.bases.fourier.TorchFourier`` with the kernels that ``library`` returned."""

    compiled: ctypes.CDLL

    def analyse(self, mesh: Tensor, extent: Triple) -> Tensor:
        """Components ``[n_meshes, 2 n1 + 1, 2 n2 + 1, n3 + 1]`` of real meshes."""
        mesh = mesh.contiguous()
        n_meshes, k1, k2, k3 = mesh.shape
        n1, n2, n3 = extent
        transforms = _Transforms((k1, k2, k3), extent, mesh.dtype)
        in_plane = transforms.in_plane(n_meshes, self.compiled)
        shape = [n_meshes, 2 * n1 + 1, 2 * n2 + 1, n3 + 1]
        components = empty(self.compiled, shape, mesh.dtype.to_complex())
        transforms.run(self.compiled.les_analyse_planes, n_meshes * k1, mesh, in_plane)
        rows = n_meshes * (2 * n2 + 1)
        transforms.run(self.compiled.les_analyse_rows, rows, in_plane, components)
        return components

    def synthesise(self, components: Tensor, sizes: Triple) -> Tensor:
        """The transpose of :meth:`analyse`: real meshes ``[n_meshes, *sizes]``."""
        components = components.resolve_conj().contiguous()
        n_meshes, width, height, depth = components.shape
        dtype = components.dtype.to_real()
        transforms = _Transforms(sizes, (width // 2, height // 2, depth - 1), dtype)
        in_plane = transforms.in_plane(n_meshes, self.compiled)
        mesh = empty(self.compiled, [n_meshes, *sizes], dtype)
        rows = n_meshes * height
        transforms.run(self.compiled.les_synthesise_rows, rows, components, in_plane)
        transforms.run(self.compiled.les_synthesise_planes, n_meshes * sizes[0], in_plane, mesh)
        return mesh


class _Transforms:
    """Kernels for meshes of some size, of which components up to an extent are needed."""

    def __init__(self, sizes: Triple, extent: Triple, dtype: torch.dtype) -> None:
        self.sizes, self.extent, self.dtype = sizes, extent, dtype
        # Kept as long as the kernels look at them.
        self.roots = [_roots(size, dtype) for size in sizes]

    def in_plane(self, n_meshes: int, compiled: ctypes.CDLL) -> Tensor:
        """Memory for what is transformed along two axes."""
        blocks = -(-(self.extent[2] + 1) // LANES)
        shape = [n_meshes, self.sizes[0], 2 * self.extent[1] + 1, blocks, 2, LANES]
        return empty(compiled, shape, self.dtype)

    def run(self, kernel: Callable[..., int], n: int, source: Tensor, target: Tensor) -> None:
        """Run a kernel for ``n`` planes or rows."""

        def part(first: int, last: int) -> None:
            places = (ctypes.c_void_p * 3)(*(roots.data_ptr() for roots in self.roots))
            task = _Task(self.sizes, self.extent, first, last, places)
            if call(kernel, task, source, target) != 0:
                raise MemoryError("there is no memory for a plane of the mesh")

        in_parallel(part, n, WORK_PER_POINT * math.prod(source.shape))


@kept_tables(at_most=64)
def _roots(size: int, dtype: torch.dtype) -> Tensor:
    """Real and imaginary parts of the roots of unity, clockwise ``[size, 2]``."""
    angles = torch.arange(size, dtype=torch.float64, device="cpu") * (-2.0 * math.pi / size)
    return torch.stack([angles.cos(), angles.sin()], dim=1).to(dtype)
