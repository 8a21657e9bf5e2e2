"""Fourier transforms of meshes of which only the components up to an extent are needed.

Components that nobody needs are dropped axis by axis. A part of the mesh at a time is
transformed, so that what is transformed stays in cache and large arrays are few. Not
differentiable by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

#: Complex numbers at a time, so that they stay in cache (CPU), or keep many cores busy
#: (elsewhere).
NUMBERS_AT_A_TIME, NUMBERS_AT_A_TIME_ELSEWHERE = 2**16, 2**26


class Fourier(Protocol):
    """Who does the transforms. Not differentiable by themselves."""

    def analyse(self, mesh: Tensor, extent: tuple[int, int, int]) -> Tensor:
        """See :func:`analyse`."""

    def synthesise(self, components: Tensor, sizes: tuple[int, int, int]) -> Tensor:
        """See :func:`synthesise`."""


class TorchFourier:
    """Transforms by operations of torch."""

    def analyse(self, mesh: Tensor, extent: tuple[int, int, int]) -> Tensor:
        return analyse(mesh, extent)

    def synthesise(self, components: Tensor, sizes: tuple[int, int, int]) -> Tensor:
        return synthesise(components, sizes)


def analyse(mesh: Tensor, extent: tuple[int, int, int]) -> Tensor:
    """Components of real meshes.

    Args:
        mesh: ``[n_meshes, k1, k2, k3]``, of even sizes.
        extent: largest number of a component along each axis, n1, n2 and n3.

    Returns:
        ``[n_meshes, 2 n1 + 1, 2 n2 + 1, n3 + 1]``, negative numbers behind positive ones; those
        with negative numbers along the last axis are the conjugates of others.
    """
    (n_meshes, k1, k2, k3), (n1, n2, n3) = mesh.shape, extent
    dtype = mesh.dtype.to_complex()
    planes = mesh.flatten(0, 1)
    in_plane = planes.new_empty([planes.shape[0], 2 * n2 + 1, n3 + 1], dtype=dtype)
    for part, _ in _parts(planes.shape[0], 1, k2 * k3, mesh):
        lines = torch.fft.rfft(planes[part], dim=2).narrow(2, 0, n3 + 1)
        _copy_ends(torch.fft.fft(lines, dim=1), in_plane[part], 1, n2)
    in_plane = in_plane.unflatten(0, (n_meshes, k1))
    components = in_plane.new_empty([n_meshes, 2 * n1 + 1, 2 * n2 + 1, n3 + 1])
    for part, rows in _parts(n_meshes, 2 * n2 + 1, k1 * (n3 + 1), mesh):
        whole = torch.fft.fft(in_plane[part, :, rows], dim=1)
        _copy_ends(whole, components[part, :, rows], 1, n1)
    return components


def synthesise(components: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """The transpose of :func:`analyse`: real meshes ``[n_meshes, *sizes]``.

    Each component counts once, whether it has a conjugate that is left out or not.
    """
    (k1, k2, k3), (n_meshes, width, height, n3) = sizes, components.shape
    n1, n2 = width // 2, height // 2
    in_plane = components.new_empty([n_meshes, k1, height, n3])
    for part, rows in _parts(n_meshes, height, k1 * n3, components):
        kept = components[part, :, rows]
        whole = kept.new_zeros([kept.shape[0], k1, *kept.shape[2:]])
        _copy_ends(kept, whole, 1, n1)
        in_plane[part, :, rows] = torch.fft.ifft(whole, dim=1, norm="forward")
    in_plane = in_plane.flatten(0, 1)
    planes = components.new_empty([in_plane.shape[0], k2, k3], dtype=components.dtype.to_real())
    for part, _ in _parts(planes.shape[0], 1, k2 * k3, components):
        kept = in_plane[part]
        whole = kept.new_zeros([kept.shape[0], k2, n3])
        _copy_ends(kept, whole, 1, n2)
        whole = torch.fft.ifft(whole, dim=1, norm="forward")
        # An inverse real transform counts each component but the first with its conjugate.
        whole[..., 0] *= 2.0
        torch.mul(torch.fft.irfft(whole, n=k3, dim=2, norm="forward"), 0.5, out=planes[part])
    return planes.unflatten(0, (n_meshes, k1))


def _copy_ends(source: Tensor, target: Tensor, dim: int, extent: int) -> None:
    """Components 0 ... ``extent``, -``extent`` ... -1 of the one to those of the other."""
    target.narrow(dim, 0, extent + 1).copy_(source.narrow(dim, 0, extent + 1))
    if extent > 0:
        after, before = source.shape[dim] - extent, target.shape[dim] - extent
        target.narrow(dim, before, extent).copy_(source.narrow(dim, after, extent))


def _parts(n: int, n_rows: int, numbers: int, like: Tensor) -> Iterator[tuple[slice, slice]]:
    """Of ``n`` arrays with rows of so many ``numbers`` a few at a time, or a few of the rows."""
    cpu = like.device.type == "cpu"
    most = NUMBERS_AT_A_TIME if cpu else NUMBERS_AT_A_TIME_ELSEWHERE
    width = max(1, most // numbers)
    height = max(1, width // n_rows)
    for first in range(0, n, height):
        for row in range(0, n_rows, width):
            yield slice(first, first + height), slice(row, row + width)
