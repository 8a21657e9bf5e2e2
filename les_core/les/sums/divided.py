r"""The sum over k-points of one structure whose atoms are divided among ranks.

Each rank spreads its own atoms over plane waves, by themselves or by way of a mesh; the components
are added up over the ranks, which is all that is global, and each rank gathers from the total what
its atoms feel. No autograd crosses ranks: with the total :math:`S`, the energy is

.. math::
    dE = \sum_{\mathbf n} |S_{\mathbf n}|^2\,dW_{\mathbf n}
       + \sum_{\mathbf n} 2 W_{\mathbf n}\,\mathrm{Re}(S^*_{\mathbf n}\,dS_{\mathbf n}),

where the first term depends on the cell alone, and the second is a sum over atoms.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import Expansion, spread
from les.sums.bases.mesh_waves import MeshWaves
from les.sums.bases.splines import MeshShape
from les.sums.bases.waves import Waves
from les.sums.frame import Frame
from les.sums.memory import check_grid
from les.sums.mesh import deconvolution, mesh_size, mesh_weights
from les.sums.method import Engine, Settings
from les.sums.plan import crossovers, engine_for
from les.sums.reciprocal.grid import grid_weights, kept_grid
from les.sums.reciprocal.lattice import (
    Lattice,
    exactly,
    grid_extent,
    reciprocal_vectors,
    wrapped,
)
from les.sums.reduction import Reduction


class DividedSum(NamedTuple):
    """Energy of a structure, and its first derivatives as far as they belong to a rank."""

    #: Energy of the whole structure, a number [eV].
    energy: Tensor
    #: Derivatives with respect to the rank's own charges, in their shape [eV/e].
    potential: Tensor
    #: Derivatives with respect to the positions of its own atoms ``[n_own, 3]`` [eV/A].
    of_positions: Tensor
    #: Derivative with respect to the cell, of the whole structure ``[3, 3]`` [eV/A].
    of_cell: Tensor


def check_divisible(pbc: Tensor) -> None:
    """Refuse what has no sum over atoms that are divided.

    Args:
        pbc: ``[3]``, boolean.

    Raises:
        ValueError: for fewer than two periodic axes.
    """
    n_axes = int(pbc.sum())
    if n_axes == 1:
        raise ValueError(
            f"`pbc` must have two or three axes true, got {pbc.tolist()}: wires are not supported"
        )
    if n_axes == 0:
        raise ValueError(
            "`pbc` must have two or three axes true, got none: the sum over the pairs of an open "
            "structure is not divided among ranks"
        )


def divided_sum(
    settings: Settings,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    reduction: Reduction,
) -> DividedSum:
    """Energy and first derivatives of one structure; all ranks must call it.

    It is what ``les.Ewald`` gives for all atoms together, by the same method. The formulas are
    evaluated in float64, on devices that have it.

    Args:
        settings: of the sum, ``les.Ewald.settings()``.
        charges: those of the rank's own atoms ``[n_own]`` or ``[n_own, n_channels]`` [e]; a rank
            may have no atoms.
        positions: ``[n_own, 3]`` [A], in any image of the cell; of slabs along the open axis as
            they are.
        cell: ``[3, 3]`` [A], the same on all ranks.
        pbc: ``[3]``, boolean, the same on all ranks.
        reduction: what adds up over the ranks.

    Raises:
        ValueError: as :func:`check_divisible`, and for a grid that does not fit in memory.
    """
    check_divisible(pbc)
    engine = engine_for(positions.device, torch.float64)
    counts = reduction.sum(torch.tensor([len(positions)], dtype=torch.float64))
    on_mesh = int(counts) >= crossovers(settings, engine.compiled, positions.is_cuda)[0]
    with torch.enable_grad():
        q = exactly(charges.detach())
        q = (q if q.dim() == 2 else q.unsqueeze(1)).requires_grad_()
        own = exactly(positions.detach()).requires_grad_()
        frame = Frame.of(exactly(cell.detach()), pbc, own, settings.sigma, reduction)
        summed = frame.cell.detach().requires_grad_()
        half_height = frame.half_height
        if half_height is not None:
            half_height = half_height.detach().requires_grad_()
        lattice = Lattice(*reciprocal_vectors(summed), half_height)
        fractional = wrapped(lattice.reciprocal[0] @ (own - frame.moved).t())
        extent = grid_extent(summed, settings.dl)
        check_grid(extent, 1, settings.dl)
        expanded = _on_mesh if on_mesh else _on_waves
        components, basis, weights = expanded(
            q, fractional, lattice, (extent[0], extent[1], extent[2]), settings, engine
        )
        total = reduction.sum(components)
        bare = basis.weighted_power(total, weights).sum()
        felt = _real(components) * _real(basis.weighted(total, 2.0 * weights.detach()))
        leaves = [q, own, summed] + ([] if half_height is None else [half_height])
        # What depends on the cell alone is the same on all ranks, and is added up over them.
        found = torch.autograd.grad(
            bare / reduction.size + felt.sum(), leaves, allow_unused=True, materialize_grads=True
        )
    of_charges, of_positions, of_cell, *of_height = found
    squares = q.detach().square().sum()
    shared = reduction.sum(torch.cat([x.flatten() for x in (squares, of_cell, *of_height)]))
    whole_cell, of_outermost = frame.pulled_back(shared[1:], len(own))
    prefactor, of_squares = settings.coefficients(True)
    potential = prefactor * of_charges + 2.0 * of_squares * q.detach()
    return DividedSum(
        (prefactor * bare.detach() + of_squares * shared[0]).to(charges.dtype),
        potential.view(charges.shape).to(charges.dtype),
        (prefactor * (of_positions + of_outermost)).to(positions.dtype),
        (prefactor * whole_cell).to(cell.dtype),
    )


#: Components of a rank's charges, the basis that they belong to, and the weights of their powers.
_Expanded = tuple[Tensor, Expansion, Tensor]


def _on_waves(
    charges: Tensor,
    fractional: Tensor,
    lattice: Lattice,
    extent: tuple[int, int, int],
    settings: Settings,
    engine: Engine,
) -> _Expanded:
    """By the plane waves themselves; ``charges [n_own, n_channels]``, ``fractional [3, n_own]``."""
    basis = Waves(fractional.detach().t().unsqueeze(0), extent)
    components = spread(charges.t()[None, :, None], fractional.unsqueeze(1), basis)
    grid = kept_grid(extent, charges.dtype, charges.device)
    greens = functools.partial(engine.greens_function, greens=settings.greens)
    return components, basis, grid_weights(lattice, grid, greens)


def _on_mesh(
    charges: Tensor,
    fractional: Tensor,
    lattice: Lattice,
    extent: tuple[int, int, int],
    settings: Settings,
    engine: Engine,
) -> _Expanded:
    """By way of a mesh, which each rank transforms by itself; arguments as above."""
    _, spacing, order = settings.resolution
    # Lattice vectors are as long as the reciprocal ones of the reciprocal ones.
    lengths: list[float] = torch.linalg.vector_norm(
        torch.linalg.inv(lattice.reciprocal[0].detach()), dim=0
    ).tolist()
    a, b, c = (mesh_size(length / spacing) for length in lengths)
    undone = deconvolution((a, b, c), list(extent), order, fractional)
    splines = engine.splines(fractional.detach(), None, MeshShape(1, a, b, c), order)
    basis = MeshWaves(splines, extent, engine.fourier)
    components = spread(charges.t().unsqueeze(0), fractional, basis)
    greens = functools.partial(engine.greens_function, greens=settings.greens)
    return components, basis, mesh_weights(lattice, undone, greens)


def _real(components: Tensor) -> Tensor:
    """Components as real numbers; products of these are real parts of products."""
    return torch.view_as_real(components) if components.is_complex() else components
