"""What dipoles of atoms add to Born effective charges and to the dipole of a structure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.response.arguments import BornSettings
from les.sums.reciprocal.lattice import exactly


def born_effective_charges_of_dipoles(
    dipoles: Tensor, positions: Tensor, epsilon_factor: float = 1.0, create_graph: bool = False
) -> Tensor:
    r"""Derivatives of the sum of the dipoles of atoms, exact under all boundary conditions.

    :math:`Z^*_{i\alpha\beta}=\sqrt{\epsilon_\infty}\,\partial\sum_ju_{j\alpha}/\partial r_{i\beta}`

    Args:
        dipoles: ``[n_atoms, 3]`` [e A], those of all structures of a batch.
        positions: ``[n_atoms, 3]`` [A], which must require gradients.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable.

    Returns:
        ``[n_atoms, 3, 3]`` [e], zero of dipoles that do not depend on positions.
    """
    rows = []
    for component in dipoles.sum(dim=0):
        row: Tensor | None = None
        if component.requires_grad:
            (row,) = torch.autograd.grad(
                component,
                positions,
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
            )
        rows.append(torch.zeros_like(positions) if row is None else row)
    result = math.sqrt(epsilon_factor) * torch.stack(rows, dim=1)
    return result if create_graph else result.detach()


def with_dipoles(
    bec: Tensor, dipoles: Tensor | None, positions: Tensor, settings: BornSettings
) -> Tensor:
    """Born effective charges of charges and dipoles together ``[n_atoms, 3, 3]`` [e].

    Args:
        bec: those of the charges.
        dipoles: ``[n_atoms, 3]`` [e A], of a model that has any.
        positions: ``[n_atoms, 3]`` [A], which must require gradients.
        settings: how Born effective charges follow.
    """
    if dipoles is None:
        return bec
    return bec + born_effective_charges_of_dipoles(
        dipoles, positions, settings.epsilon_factor, settings.create_graph
    )


def sum_of_dipoles(
    dipoles: Tensor, batch: Tensor, n_structures: int, epsilon_factor: float
) -> Tensor:
    """Dipoles of atoms ``[n_atoms, 3]`` [e A], summed and scaled, ``[n_structures, 3]``."""
    values = math.sqrt(epsilon_factor) * exactly(dipoles)
    total = values.new_zeros(n_structures, 3).index_add(0, batch, values)
    return total.to(dipoles.dtype)
