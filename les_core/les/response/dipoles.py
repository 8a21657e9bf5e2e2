"""Dipoles of latent charges, and what the other responses have in common with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.ranges import check_number
from les.sums.checks import (
    as_indices,
    check_batch,
    check_charges,
    check_positions,
    check_tensors,
)
from les.sums.reciprocal.lattice import exactly


def dipole_moments(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    remove_mean: bool = True,
    epsilon_factor: float = 1.0,
) -> Tensor:
    r"""Dipoles :math:`\sqrt{\epsilon_\infty} \sum_j q_j r_j` for the positions as given.

    In a periodic cell this is one branch of a multivalued quantity, and jumps when an atom
    is wrapped; take differences, or Born effective charges.

    Args:
        charges: ``[n_atoms]`` or ``[n_atoms, 1]`` [e].
        positions: ``[n_atoms, 3]`` [A].
        batch: structure of each atom ``[n_atoms]``.
        n_structures: number of structures.
        remove_mean: subtract the mean charge of each structure, so that the dipole does not
            depend on the origin.
        epsilon_factor: high-frequency dielectric constant.

    Returns:
        ``[n_structures, 3]`` [e A].

    Raises:
        ValueError, TypeError: as ``les.Ewald``, and for several charge channels.
    """
    q, owner = checked_arguments(charges, positions, batch, n_structures, epsilon_factor)
    return dipole_evaluation(q, positions, owner, n_structures, remove_mean, epsilon_factor)


def dipole_evaluation(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    remove_mean: bool,
    epsilon_factor: float,
) -> Tensor:
    """Dipoles of checked arguments, without a look at their values; ``charges`` ``[n_atoms]``."""
    q = exact_charges(charges, batch, n_structures, remove_mean, epsilon_factor)
    moments = q.new_zeros([n_structures, 3])
    moments = moments.index_add(0, batch, q.unsqueeze(-1) * exactly(positions))
    return moments.to(positions.dtype)


def checked_arguments(
    charges: Tensor, positions: Tensor, batch: Tensor, n_structures: int, epsilon_factor: float
) -> tuple[Tensor, Tensor]:
    """``charges`` ``[n_atoms]`` and indices ``batch`` of :func:`dipole_moments`, after a check."""
    if not torch.jit.is_scripting():
        check_tensors(charges=charges, positions=positions, batch=batch)
    check_positions(positions)
    check_charges("charges", charges, positions)
    owner = as_indices(batch)
    assert owner is not None
    check_batch(owner, positions.shape[0], n_structures, positions.device)
    check_epsilon_factor(epsilon_factor)
    return single_channel(charges), owner


def exact_charges(
    charges: Tensor, batch: Tensor, n_structures: int, remove_mean: bool, epsilon_factor: float
) -> Tensor:
    """``charges`` ``[n_atoms]`` [e] in float64, less their means and scaled, to be summed."""
    q = exactly(charges)
    if remove_mean:
        q = q - structure_mean(q, batch, n_structures)
    return math.sqrt(epsilon_factor) * q


def single_channel(charges: Tensor) -> Tensor:
    """Charges ``[n_atoms]`` of ``[n_atoms]`` or ``[n_atoms, 1]``."""
    if charges.dim() == 1:
        return charges
    if charges.shape[1] != 1:
        raise ValueError("`charges` must have one channel for dipoles and Born effective charges")
    return charges.squeeze(-1)


def structure_mean(values: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Mean of ``values`` ``[n_atoms, ...]`` in the structure of each atom, of the same shape."""
    shape = [n_structures] + list(values.shape[1:])
    total = values.new_zeros(shape).index_add(0, batch, values)
    count = torch.ones_like(batch, dtype=values.dtype)
    count = values.new_zeros(n_structures).index_add(0, batch, count).clamp(min=1.0)
    return (total / count.view([n_structures] + [1] * (values.dim() - 1)))[batch]


def check_epsilon_factor(epsilon_factor: float) -> None:
    """Raise ``ValueError`` for a dielectric constant that is not a positive number."""
    if not torch.jit.is_scripting():
        check_number("epsilon_factor", epsilon_factor)
    if not (epsilon_factor > 0.0 and math.isfinite(epsilon_factor)):
        raise ValueError(f"`epsilon_factor` must be a positive number, got {epsilon_factor}")
