r"""Open boundaries: Gaussian charges in vacuum, summed over pairs of atoms.

Two Gaussian charges of width sigma a distance r apart interact with
:math:`k_e q_i q_j\,\mathrm{erf}(r/\sqrt2\sigma)/r`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import library
from les.sums.cpu.pairs import pair_sum


def open_sum(
    charges: Tensor,
    positions: Tensor,
    sigma: float,
    compute_potential: bool,
) -> tuple[Tensor, Tensor | None]:
    r"""Pair sum :math:`\sum_{i<j} q_i q_j\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}`.

    Args:
        charges: ``[n_structures, n_atoms, n_channels]``; zero on padding atoms.
        positions: ``[n_structures, n_atoms, 3]`` [A]; all places are different, those of
            padding atoms too.
        sigma: width of the Gaussian charges [A].
        compute_potential: also return the derivative with respect to ``charges``.

    Returns:
        Sum per structure ``[n_structures]`` and its derivative with respect to the charges,
        shaped like ``charges`` (or ``None``). The caller multiplies both by ``k_e``.

    Raises:
        ValueError: if two atoms are at the same place.
    """
    if not torch.jit.is_scripting():
        compiled = library(charges.device, charges.dtype)
        if compiled is not None:
            return _native_sum(compiled, charges, positions, sigma, compute_potential)
    return _plain_sum(charges, positions, sigma, compute_potential)


def _plain_sum(
    charges: Tensor, positions: Tensor, sigma: float, compute_potential: bool
) -> tuple[Tensor, Tensor | None]:
    """:func:`open_sum` by operations of torch."""
    first, second = torch.triu_indices(
        charges.shape[1], charges.shape[1], offset=1, device=charges.device
    ).unbind(0)
    # Structures last: pairs are the same for all, so whole rows are gathered and, in the
    # derivatives, scattered. Put together from components, so that derivatives with respect to
    # positions are contiguous. In units of sqrt(2) sigma the kernel is erf(x) / x; distances are
    # taken before they are scaled, so that where the structure is does not matter.
    unit = math.sqrt(2.0) * sigma
    r = torch.stack([component.t() for component in positions.unbind(2)])
    q = charges.permute(2, 1, 0).contiguous()
    distance = (r.index_select(1, second) - r.index_select(1, first)).square().sum(dim=0).sqrt()
    distance = distance / unit
    _refuse_coincidence(distance, positions, first, second)
    kernel = torch.erf(distance) / distance  # [n_pairs, n_structures]

    q_first, q_second = q.index_select(1, first), q.index_select(1, second)
    energy = ((q_first * q_second).sum(dim=0) * kernel).sum(dim=0) / unit
    if not compute_potential:
        return energy, None
    potential = torch.zeros_like(q)
    potential = potential.index_add(1, first, q_second * kernel)
    potential = potential.index_add(1, second, q_first * kernel) / unit
    return energy, potential.permute(2, 1, 0)


@torch.jit.unused
def _native_sum(
    compiled: Any, charges: Tensor, positions: Tensor, sigma: float, compute_potential: bool
) -> tuple[Tensor, Tensor | None]:
    """:func:`open_sum` by compiled kernels."""

    def plain(q: Tensor, r: Tensor) -> Tensor:
        return _plain_sum(q, r, sigma, False)[0]

    unit = math.sqrt(2.0) * sigma
    energy, potential, closest = pair_sum(compiled, charges, positions, unit, plain)
    if bool((closest == 0.0).any()):
        _plain_sum(charges, positions, sigma, False)  # says which atoms
    return energy, potential if compute_potential else None


def open_sum_masked(charges: Tensor, positions: Tensor, batch: Tensor, sigma: float) -> Tensor:
    r"""Derivative of the pair sum with respect to the charges, over all pairs of a batch.

    Pairs of different structures are masked, so the work grows with the square of the whole
    batch: for graphs captured without knowing how many atoms a structure has.

    Args:
        charges: ``[n_atoms, n_channels]``.
        positions: ``[n_atoms, 3]`` [A]; those of a structure all different.
        batch: structure of each atom ``[n_atoms]``.
        sigma: width of the Gaussian charges [A].

    Returns:
        ``[n_atoms, n_channels]``, as of :func:`open_sum`.

    Raises:
        RuntimeError: when it runs, also inside a graph, if two atoms of a structure are at
            the same place.
    """
    unit = math.sqrt(2.0) * sigma
    atoms = torch.arange(positions.shape[0], device=positions.device)
    pair = (batch.unsqueeze(0) == batch.unsqueeze(1)) & (atoms.unsqueeze(0) != atoms.unsqueeze(1))
    # Distances before they are scaled, so that where the structure is does not matter.
    squared = (positions.unsqueeze(0) - positions.unsqueeze(1)).square().sum(dim=-1) / unit**2
    torch._assert_async(
        ((squared > 0.0) | ~pair).all(), "two atoms of an open structure are at the same place"
    )
    # Masked pairs may be at the same place: no infinity may enter the derivatives.
    distance = torch.where(pair, squared, torch.ones_like(squared)).sqrt()
    kernel = torch.where(pair, torch.erf(distance) / distance, torch.zeros_like(distance))
    return kernel @ charges / unit


def _refuse_coincidence(distance: Tensor, positions: Tensor, first: Tensor, second: Tensor) -> None:
    coincident = distance.detach() == 0.0
    if bool(coincident.any()):
        found: list[int] = torch.nonzero(coincident)[0].tolist()
        i, j = int(first[found[0]]), int(second[found[0]])
        place: list[float] = positions[found[1], i].to(torch.float64).tolist()
        raise ValueError(
            f"`positions` must differ, got atoms {i} and {j} of an open structure at the same "
            f"place, {place}"
        )
