r"""Separable direct sum over k-points, for a batch of periodic structures at once.

With :math:`\mathbf k = 2\pi \mathbf n A^{-T}` the phase of every atom-k pair factorises
over the three lattice directions, :math:`\mathbf k\cdot\mathbf r = \sum_a n_a\theta_a` with
:math:`\theta_a = 2\pi s_a` of the fractional coordinates. So only cos and sin of
:math:`n_a\theta_a` are evaluated, O(N M^{1/3}) of them instead of O(N M), and all structure
factors follow from one real matrix product
:math:`T = (X \otimes Y)^T (q Z)`. The eight cos/sin combinations of each
:math:`(|n_1|, |n_2|, |n_3|)` are then turned into the real and imaginary parts of the four
k-points that differ by sign and not by inversion, on O(M) data.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.greens import periodic_greens_function, slab_greens_function
from les.lattice import grid_extent, reciprocal_vectors


def _sign_combinations(like: Tensor) -> Tensor:
    r"""Matrix ``[8, 8]`` from products of cos/sin to structure factors.

    Columns: (cos|sin of axis 1, of axis 2, of axis 3), the last fastest. Rows: real and
    imaginary part of :math:`e^{i(s a + b + t c)}` for (s, t) = (+, +), (+, -), (-, +), (-, -).
    """
    rows: list[list[float]] = []
    for s in [1.0, -1.0]:
        for t in [1.0, -1.0]:
            rows.append([1.0, 0.0, 0.0, -t, 0.0, -s * t, -s, 0.0])
            rows.append([0.0, t, 1.0, 0.0, s, 0.0, 0.0, -s * t])
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _k_grid(reciprocal: Tensor, extent: list[int]) -> tuple[Tensor, Tensor]:
    r""":math:`|\mathbf k|^2` ``[n_structures, 4, n_points]`` and multiplicities ``[n_points]``.

    ``reciprocal`` are reciprocal vectors without the factor 2 pi, ``[n_structures, 3, 3]``.
    The second axis runs over the signs (s, t) as in :func:`_sign_combinations`. The
    multiplicity counts each k-point and its inverse, and halves for every zero component,
    because sign combinations then coincide.
    """
    n1 = torch.arange(extent[0] + 1, dtype=reciprocal.dtype, device=reciprocal.device)
    n2 = torch.arange(extent[1] + 1, dtype=reciprocal.dtype, device=reciprocal.device)
    n3 = torch.arange(extent[2] + 1, dtype=reciprocal.dtype, device=reciprocal.device)
    a, b, c = torch.meshgrid(n1, n2, n3, indexing="ij")
    a, b, c = a.flatten(), b.flatten(), c.flatten()
    halves = (a == 0).to(a.dtype) + (b == 0).to(a.dtype) + (c == 0).to(a.dtype)
    multiplicity = 2.0 * torch.pow(0.5, halves)

    metric = (2.0 * math.pi) ** 2 * (reciprocal @ reciprocal.transpose(-1, -2))
    squares = torch.stack([a * a, b * b, c * c])
    products = torch.stack([a * b, a * c, b * c])
    # Signs of (n1 n2, n1 n3, n2 n3) for (s, t).
    signs = torch.tensor(
        [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]],
        dtype=reciprocal.dtype,
        device=reciprocal.device,
    )
    diagonal = torch.diagonal(metric, dim1=-2, dim2=-1)
    off_diagonal = 2.0 * torch.stack([metric[:, 0, 1], metric[:, 0, 2], metric[:, 1, 2]], dim=-1)
    k_squared = (diagonal @ squares).unsqueeze(1) + (
        off_diagonal.unsqueeze(1) * signs.unsqueeze(0)
    ) @ products
    return k_squared, multiplicity


def _axis_basis(theta: Tensor, extent: int) -> Tensor:
    """``[..., 2 extent + 1]``: cos(n theta) for n = 0 ... extent, sin(n theta) from n = 1."""
    n = torch.arange(extent + 1, dtype=theta.dtype, device=theta.device)
    angles = theta.unsqueeze(-1) * n
    return torch.cat([torch.cos(angles), torch.sin(angles[..., 1:])], dim=-1)


def _insert_sine_of_zero(products: Tensor, dim: int, extent: int) -> Tensor:
    """Give the basis along ``dim`` its sin(0 theta) = 0 back: as many sines as cosines."""
    zero = torch.zeros_like(products.narrow(dim, 0, 1))
    return torch.cat(
        [products.narrow(dim, 0, extent + 1), zero, products.narrow(dim, extent + 1, extent)],
        dim=dim,
    )


def _drop_sine_of_zero(products: Tensor, dim: int, extent: int) -> Tensor:
    """The transpose of :func:`_insert_sine_of_zero`."""
    return torch.cat(
        [products.narrow(dim, 0, extent + 1), products.narrow(dim, extent + 2, extent)], dim=dim
    )


def reciprocal_sum(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    sigma: float,
    dl: float,
    smooth: bool,
    compute_potential: bool,
    extent: list[int] | None = None,
    owner: Tensor | None = None,
    half_height: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    r"""Reciprocal sum :math:`\frac1V\sum_{k\ne0} w(k) e^{-\sigma^2k^2/2}|S(k)|^2/k^2`.

    Complexity O(N M) with one fused multiply-add per pair of atom and real basis function;
    memory O(N M^{2/3} + M).

    Atoms come in rows of equal length, usually one row per structure.

    Args:
        charges: ``[n_rows, n_atoms, n_channels]``; zero on padding atoms.
        positions: ``[n_rows, n_atoms, 3]`` [A]; anything finite on padding atoms.
        cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors, of either handedness.
        sigma: width of the Gaussian charges [A].
        dl: resolution, ``k_max = 2 pi / dl`` [A].
        smooth: taper the sum towards ``k_max`` (see ``greens.cutoff_weight``).
        compute_potential: also return the derivative with respect to ``charges``.
        extent: largest :math:`|n_a|` along each lattice vector; without it, what the cells
            need, which takes their values and so cannot be captured in a graph.
        owner: structure of each row ``[n_rows]``, where structures have several rows.
        half_height: where the kernels of slabs end ``[n_structures]`` [A], 0 for structures with
            three periodic axes (see ``slab.slab_cells``); without it, all are such.

    Returns:
        Sum per structure ``[n_structures]`` and its derivative with respect to the charges,
        shaped like ``charges`` (or ``None``). The caller multiplies both by ``2 pi k_e``.
    """
    n_rows, n_atoms, n_channels = charges.shape
    n_structures = cell.shape[0]
    if extent is None:
        extent = grid_extent(cell, dl)
    n1, n2, n3 = extent[0] + 1, extent[1] + 1, extent[2] + 1

    reciprocal, volume = reciprocal_vectors(cell)
    to_fractional = reciprocal.transpose(1, 2)
    if owner is not None:
        to_fractional = to_fractional.index_select(0, owner)
    fractional = positions @ to_fractional
    # Wrapping changes no phase, and keeps them exact in float32 for unwrapped trajectories.
    theta = 2.0 * math.pi * (fractional - torch.round(fractional.detach()))
    x = _axis_basis(theta[..., 0], extent[0])
    y = _axis_basis(theta[..., 1], extent[1])
    z = _axis_basis(theta[..., 2], extent[2])

    xy = (x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(2)
    charged_z = (charges.unsqueeze(-1) * z.unsqueeze(-2)).flatten(2)
    products = xy.transpose(1, 2) @ charged_z
    if owner is not None:
        shape = [n_structures, products.shape[1], products.shape[2]]
        products = products.new_zeros(shape).index_add(0, owner, products)
    products = products.view(n_structures, x.shape[-1], y.shape[-1], n_channels, z.shape[-1])
    products = _insert_sine_of_zero(products, 1, extent[0])
    products = _insert_sine_of_zero(products, 2, extent[1])
    products = _insert_sine_of_zero(products, 4, extent[2])
    products = products.view(n_structures, 2, n1, 2, n2, n_channels, 2, n3)
    products = products.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(
        n_structures, n_channels, 8, n1 * n2 * n3
    )
    combine = _sign_combinations(charges)
    structure_factor = combine @ products  # [n_structures, n_channels, 8, n_points]

    k_squared, multiplicity = _k_grid(reciprocal, extent)
    kernel = periodic_greens_function(k_squared, sigma, 2.0 * math.pi / dl, smooth)
    if half_height is not None:
        # Along the third vector, which is the normal.
        n = torch.arange(n3, dtype=kernel.dtype, device=kernel.device)
        length = torch.linalg.vector_norm(reciprocal[:, 2], dim=1).view(-1, 1, 1, 1)
        grid = k_squared.view(n_structures, 4, n1 * n2, n3)
        kernel = slab_greens_function(
            kernel.view_as(grid),
            grid,
            grid[..., :1],
            2.0 * math.pi * length * n,
            half_height.view(-1, 1, 1, 1),
        ).flatten(2)
    kernel = kernel * multiplicity / volume.view(-1, 1, 1)
    weights = kernel.repeat_interleave(2, dim=1).unsqueeze(1)  # real and imaginary part

    weighted = weights * structure_factor
    total = (weighted * structure_factor).flatten(1).sum(dim=1)
    if not compute_potential:
        return total, None

    back = (2.0 * combine.t() @ weighted).view(n_structures, n_channels, 2, 2, 2, n1, n2, n3)
    back = back.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(
        n_structures, 2 * n1, 2 * n2, n_channels, 2 * n3
    )
    back = _drop_sine_of_zero(back, 1, extent[0])
    back = _drop_sine_of_zero(back, 2, extent[1])
    back = _drop_sine_of_zero(back, 4, extent[2])
    back = back.flatten(1, 2).flatten(2)
    if owner is not None:
        back = back.index_select(0, owner)
    along_z = (xy @ back).view(n_rows, n_atoms, n_channels, -1)
    return total, (along_z * z.unsqueeze(-2)).sum(dim=-1)
