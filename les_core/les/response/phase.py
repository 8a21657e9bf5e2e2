r"""Born effective charges by the published evaluation, from one phase per lattice vector.

.. math:: Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\partial P_\alpha/\partial r_{i\beta}

In an open structure :math:`P = \sum_j q_j r_j`. In a periodic cell positions are defined up
to lattice vectors; it takes, for every lattice direction a with fractional
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

from les.neutrality import shifted_charges
from les.response.arguments import (
    BornSettings,
    check_gradients,
    check_settings,
    response_arguments,
)
from les.structures import Structures
from les.sums.reciprocal.lattice import exactly, open_directions, reciprocal_vectors


def phase_born_effective_charges(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor | None,
    batch: Tensor | None,
    pbc: Tensor | None,
    settings: BornSettings,
    total_charge: Tensor | None = None,
) -> Tensor:
    """Born effective charges as :func:`les.born_effective_charges` with ``method="phase"``.

    TorchScript can compile this one.
    """
    q, structures = response_arguments(charges, positions, cell, batch, pbc)
    check_settings(settings, total_charge, q, structures.cell.shape[0])
    check_gradients(positions)
    return phase_evaluation(q, structures, settings, total_charge)


def phase_evaluation(
    charges: Tensor,
    structures: Structures,
    settings: BornSettings,
    total_charge: Tensor | None = None,
) -> Tensor:
    """Born effective charges of checked arguments, without a look at their values.

    ``charges`` are ``[n_atoms]``, and ``structures`` tell their ``pbc``.
    """
    remove_mean, epsilon_factor, create_graph = settings
    positions, cell, batch, periodic = structures
    assert periodic is not None  # for TorchScript
    # In float64: moments of charges around the origin cancel where the structure is far from it.
    q, cell = exactly(charges), exactly(cell)
    if remove_mean:
        q = shifted_charges(q, total_charge, batch, cell.shape[0], epsilon_factor)
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


def _gradient(value: Tensor, positions: Tensor, create_graph: bool) -> Tensor:
    gradient = torch.autograd.grad(
        [value], [positions], retain_graph=True, create_graph=create_graph
    )[0]
    assert gradient is not None  # for TorchScript: every sum depends on the positions
    return gradient
