r"""Open boundaries: Gaussian charges in vacuum, summed over pairs of atoms.

Two Gaussian charges of width sigma a distance r apart interact with
:math:`k_e q_i q_j\,\mathrm{erf}(r/\sqrt2\sigma)/r`.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import torch
from torch import Tensor

#: Distances are bounded from below by this, so that derivatives of all orders stay finite
#: for coinciding atoms. The kernel is flat there: it changes by 2e-9 of itself [A].
MINIMUM_DISTANCE = 1e-4


def pairs_within_structures(batch: Tensor, n_structures: int) -> Tuple[Tensor, Tensor]:
    """All pairs i < j of atoms of the same structure, as two index vectors ``[n_pairs]``.

    Args:
        batch: structure of each atom ``[n_atoms]``, in ascending order.
        n_structures: number of structures; some may have no atoms.
    """
    ends = torch.cumsum(torch.bincount(batch, minlength=n_structures), dim=0)
    atoms = torch.arange(batch.shape[0], device=batch.device)
    n_partners = ends[batch] - atoms - 1
    first = torch.repeat_interleave(atoms, n_partners)
    # Pair p of an atom whose pairs start at `start` has the partner atom + 1 + p - start.
    offset = atoms + 1 - (torch.cumsum(n_partners, dim=0) - n_partners)
    second = torch.arange(first.shape[0], device=batch.device) + offset[first]
    return first, second


def open_sum(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    sigma: float,
    compute_potential: bool,
    minimum_distance: float = MINIMUM_DISTANCE,
) -> Tuple[Tensor, Optional[Tensor]]:
    r"""Pair sum :math:`\sum_{i<j} q_i q_j\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}`.

    Args:
        charges: ``[n_atoms, n_channels]``.
        positions: ``[n_atoms, 3]`` [A].
        batch: structure of each atom ``[n_atoms]``, in ascending order.
        n_structures: number of structures.
        sigma: width of the Gaussian charges [A].
        compute_potential: also return the derivative with respect to ``charges``.
        minimum_distance: lower bound of the distances [A].

    Returns:
        Sum per structure ``[n_structures]`` and its derivative with respect to the charges
        ``[n_atoms, n_channels]`` (or ``None``). The caller multiplies both by ``k_e``.
    """
    first, second = pairs_within_structures(batch, n_structures)
    separation = positions.index_select(0, second) - positions.index_select(0, first)
    squared = (separation * separation).sum(dim=-1)
    distance = torch.sqrt(squared.clamp(min=minimum_distance**2))
    kernel = torch.erf(distance / (math.sqrt(2.0) * sigma)) / distance

    charge_first = charges.index_select(0, first)
    charge_second = charges.index_select(0, second)
    pair_energy = (charge_first * charge_second).sum(dim=-1) * kernel
    energy = charges.new_zeros(n_structures).index_add(0, batch.index_select(0, first), pair_energy)
    if not compute_potential:
        return energy, None
    potential = torch.zeros_like(charges)
    potential = potential.index_add(0, first, charge_second * kernel.unsqueeze(-1))
    potential = potential.index_add(0, second, charge_first * kernel.unsqueeze(-1))
    return energy, potential
