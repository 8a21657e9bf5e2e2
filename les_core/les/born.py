r"""Dipoles and Born effective charges of latent charges.

.. math:: Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\partial P_\alpha/\partial r_{i\beta}

In an open structure :math:`P = \sum_j q_j r_j`. In a periodic cell positions are defined up
to lattice vectors; the phase evaluation takes, for every lattice direction a with fractional
coordinates s,

.. math::
    P_a = \frac{1}{2\pi i} \sum_j q_j e^{2\pi i s_{ja}}, \qquad
    Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\mathrm{Re} \sum_a A_{a\alpha}
    e^{-2\pi i s_{ia}}\,\partial P_a/\partial r_{i\beta}

and along the normal of a slab the distance, as in an open structure (P. Zhong, D. Kim,
D. S. King, B. Cheng, "Machine learning interatomic potential can infer
electrical response", arXiv:2504.05169). It replaces the distance x from atom i by
:math:`(L/2\pi)\sin(2\pi x/L)`: an approximation that improves with the size of the cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.checks import (
    as_indices,
    check_batch,
    check_cell,
    check_charges,
    check_pbc,
    check_positions,
    check_tensors,
    has_volume,
    is_compiling,
    open_cells,
)
from les.lattice import exactly, open_directions, reciprocal_vectors
from les.ranges import check_number


def _single_channel(charges: Tensor) -> Tensor:
    if charges.dim() == 1:
        return charges
    if charges.shape[1] != 1:
        raise ValueError("`charges` must have one channel for dipoles and Born effective charges")
    return charges.squeeze(-1)


def _structure_mean(charges: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Mean charge of each atom's structure ``[n_atoms]``."""
    total = charges.new_zeros(n_structures).index_add(0, batch, charges)
    count = charges.new_zeros(n_structures).index_add(0, batch, torch.ones_like(charges))
    return (total / count.clamp(min=1.0))[batch]


def dipole_moments(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    remove_mean: bool = True,
    epsilon_factor: float = 1.0,
) -> Tensor:
    r"""Dipoles :math:`\sqrt{\epsilon_\infty} \sum_j q_j r_j` of the positions as given.

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
    if not torch.jit.is_scripting():
        check_tensors(charges=charges, positions=positions, batch=batch)
    check_positions(positions)
    check_charges("charges", charges, positions)
    owner = as_indices(batch)
    assert owner is not None
    check_batch(owner, positions.shape[0], n_structures, positions.device)
    _check_factor(epsilon_factor)
    dtype = positions.dtype
    q, positions = exactly(_single_channel(charges)), exactly(positions)
    if remove_mean:
        q = q - _structure_mean(q, owner, n_structures)
    moments = positions.new_zeros([n_structures, 3])
    moments = moments.index_add(0, owner, q.unsqueeze(-1) * positions)
    return (math.sqrt(epsilon_factor) * moments).to(dtype)


def born_effective_charges(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
    pbc: Tensor | None = None,
    remove_mean: bool = True,
    epsilon_factor: float = 1.0,
    create_graph: bool = False,
    method: str = "phase",
) -> Tensor:
    r"""Born effective charges, the derivatives of the polarisation (see this module's top).

    Args:
        charges: latent charges ``[n_atoms]`` or ``[n_atoms, 1]`` [e], computed from
            ``positions`` by differentiable operations.
        positions: ``[n_atoms, 3]`` [A], must require gradients.
        cell: ``[n_structures, 3, 3]`` [A]; without it all structures are open.
        batch: structure of each atom ``[n_atoms]``; may be left out for one structure.
        pbc: ``[n_structures, 3]``, boolean; without it the volume of the cell decides.
        remove_mean: subtract the mean charge of each structure first.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable, to train on it.
        method: ``"phase"``, the published evaluation given in this module's description.

    Returns:
        ``[n_atoms, 3, 3]`` [e]; first the component of P, then of the displacement.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, but not within ``torch.compile``; and for several
            charge channels, an unknown method, or positions that do not require gradients.
    """
    if method != "phase":
        raise ValueError("`method` must be 'phase', got " + method)
    if not torch.jit.is_scripting():
        check_tensors(charges=charges, positions=positions)
        check_tensors(True, cell=cell, batch=batch, pbc=pbc)
    if cell is None:
        cell = open_cells(positions, batch, pbc)
    batch = as_indices(batch)
    if not is_compiling():  # there are no values to look at then
        _check_factor(epsilon_factor)
        check_positions(positions)
        check_charges("charges", charges, positions)
        check_cell(cell, positions)
        check_batch(batch, positions.shape[0], cell.shape[0], positions.device)
        check_pbc(pbc, cell)
    charges = _single_channel(charges)
    if not positions.requires_grad:
        raise ValueError("`positions` must require gradients for Born effective charges")
    if batch is None:
        batch = torch.zeros(positions.shape[0], dtype=torch.long, device=positions.device)
    periodic = has_volume(cell).unsqueeze(1).expand(-1, 3) if pbc is None else pbc
    return phase_evaluation(
        charges, positions, cell, batch, periodic, remove_mean, epsilon_factor, create_graph
    )


def phase_evaluation(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor,
    periodic: Tensor,
    remove_mean: bool,
    epsilon_factor: float,
    create_graph: bool,
) -> Tensor:
    """:func:`born_effective_charges` of checked arguments, without a look at their values.

    ``charges`` are ``[n_atoms]``, ``periodic`` tells the periodic axes of each structure
    ``[n_structures, 3]``.
    """
    # In float64: moments of charges around the origin cancel where the structure is far from it.
    q, cell = exactly(charges), exactly(cell)
    if remove_mean:
        q = q - _structure_mean(q, batch, cell.shape[0])
    # Along an open axis it is the limit of a unit vector with sin(x) -> x, cos(x) -> 1.
    vectors = torch.where(periodic.unsqueeze(-1), cell, open_directions(cell, periodic))
    atom_periodic = periodic[batch]
    to_fractional = reciprocal_vectors(vectors)[0].transpose(1, 2)[batch]
    angle = 2.0 * math.pi * (exactly(positions).unsqueeze(1) @ to_fractional).squeeze(1)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    odd = torch.where(atom_periodic, sine, angle) / (2.0 * math.pi)
    even = cosine / (2.0 * math.pi)
    odd_sum = (q.unsqueeze(-1) * odd).sum(dim=0)
    even_sum = (q.unsqueeze(-1) * even).sum(dim=0)
    with_odd = torch.where(atom_periodic, cosine, torch.ones_like(cosine))
    with_even = torch.where(atom_periodic, sine, torch.zeros_like(sine))

    along_lattice: list[Tensor] = []
    for axis in range(3):
        odd_part = _gradient(odd_sum[axis], positions, create_graph)
        even_part = _gradient(even_sum[axis], positions, create_graph)
        along_lattice.append(
            with_odd[:, axis : axis + 1] * odd_part - with_even[:, axis : axis + 1] * even_part
        )
    derivative = torch.stack(along_lattice, dim=1)
    result = vectors.transpose(1, 2)[batch] @ derivative
    result = (math.sqrt(epsilon_factor) * result).to(positions.dtype)
    return result if create_graph else result.detach()


def _check_factor(epsilon_factor: float) -> None:
    if not torch.jit.is_scripting():
        check_number("epsilon_factor", epsilon_factor)
    if not (epsilon_factor > 0.0 and math.isfinite(epsilon_factor)):
        raise ValueError(f"`epsilon_factor` must be a positive number, got {epsilon_factor}")


def _gradient(value: Tensor, positions: Tensor, create_graph: bool) -> Tensor:
    gradient = torch.autograd.grad(
        [value], [positions], retain_graph=True, create_graph=create_graph
    )[0]
    assert gradient is not None  # for TorchScript: every sum depends on the positions
    return gradient
