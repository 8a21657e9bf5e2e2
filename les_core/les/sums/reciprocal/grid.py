"""The k-points of the direct sum, and the weights of their powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.reciprocal.greens import lattice_greens_function
from les.sums.reciprocal.lattice import Lattice
from les.sums.tables import kept_tables


class Grid(NamedTuple):
    """K-points by their numbers, one of each pair that differs by inversion."""

    #: ``[3, 4 n_points]``; the last axis runs first over the signs (s, t) of ``waves.combine``.
    numbers: Tensor
    #: ``[n_points]``. It counts each k-point and its inverse, and halves for every zero component,
    #: because sign combinations then coincide.
    multiplicity: Tensor
    #: Numbers along the third vector ``[n]``.
    third: Tensor


def k_grid(extent: tuple[int, int, int] | list[int], like: Tensor) -> Grid:
    """All k-points with numbers up to ``extent``, with the dtype and on the device of ``like``."""
    n1 = torch.arange(extent[0] + 1, dtype=like.dtype, device=like.device)
    n2 = torch.arange(extent[1] + 1, dtype=like.dtype, device=like.device)
    n3 = torch.arange(extent[2] + 1, dtype=like.dtype, device=like.device)
    numbers = torch.cartesian_prod(n1, n2, n3)
    multiplicity = 2.0 * torch.pow(0.5, (numbers == 0.0).sum(dim=1).to(like.dtype))
    # Signs of (n1, n2, n3) for (s, t).
    signs = torch.tensor(
        [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]],
        dtype=like.dtype,
        device=like.device,
    )
    signed = (signs.t().unsqueeze(2) * numbers.t().unsqueeze(1)).flatten(1)
    return Grid(signed, multiplicity, n3)


@kept_tables(at_most=4)
def kept_grid(extent: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Grid:
    """The grid once more, kept: the next call is likely to have the same size."""
    return k_grid(extent, torch.empty(0, dtype=dtype, device=device))


def grid_weights(lattice: Lattice, grid: Grid, periodic: Callable[[Tensor], Tensor]) -> Tensor:
    """Green's function per volume, ``[n_structures, 4, n_points]``.

    Args:
        lattice: the structures.
        grid: their k-points.
        periodic: the function for three periodic axes, of ``|k|^2``.
    """
    # Components first: torch is slow with many rows of three.
    vectors = (2.0 * math.pi * lattice.reciprocal).transpose(1, 2).reshape(-1, 3)
    k = vectors @ grid.numbers
    k_squared = k.view(-1, 3, 4, grid.multiplicity.shape[0]).square().sum(dim=1)
    k_squared = k_squared.unflatten(2, (-1, grid.third.shape[0]))
    greens = lattice_greens_function(lattice, k_squared, grid.third, periodic).flatten(2)
    return greens * grid.multiplicity / lattice.volume.view(-1, 1, 1)
