"""Derivatives of the energy of a MACE model with the long-range part; TorchScript compiles this."""

# No postponed annotations: TorchScript takes the types of a NamedTuple from them.

from typing import NamedTuple

import torch
from mace.modules.utils import compute_forces, compute_forces_virials, compute_hessians_vmap
from torch import Tensor


class Derivatives(NamedTuple):
    """What upstream returns of them; ``None`` for what was not asked for.

    Attributes:
        forces: ``[n_atoms, 3]`` [eV/A].
        virials: ``[n_graphs, 3, 3]`` [eV].
        stress: ``[n_graphs, 3, 3]`` [eV/A^3].
        hessian: ``[3 n_atoms, n_atoms, 3]`` [eV/A^2].
    """

    forces: Tensor | None
    virials: Tensor | None
    stress: Tensor | None
    hessian: Tensor | None


class Asked(NamedTuple):
    """Which derivatives are asked for, and whether they are trained on."""

    force: bool
    virials: bool
    stress: bool
    hessian: bool
    training: bool


def strained(cell: Tensor, displacement: Tensor | None) -> Tensor:
    """``cell`` ``[n_graphs, 3, 3]`` [A] under upstream's strain, where there is any."""
    if displacement is None:
        return cell
    return cell + torch.matmul(cell, 0.5 * (displacement + displacement.transpose(-1, -2)))


def derivatives(
    energy: Tensor, positions: Tensor, cell: Tensor, displacement: Tensor | None, asked: Asked
) -> Derivatives:
    """The derivatives of energies ``[n_graphs]`` [eV].

    Args:
        energy: the energies.
        positions: ``[n_atoms, 3]`` [A].
        cell: ``[n_graphs, 3, 3]`` [A].
        displacement: upstream's strain ``[n_graphs, 3, 3]``, if there is any.
        asked: which ones.
    """
    forces: Tensor | None = None
    virials: Tensor | None = None
    stress: Tensor | None = None
    hessian: Tensor | None = None
    keep_graph = asked.training or asked.hessian
    if (asked.virials or asked.stress) and displacement is not None:
        forces, virials, stress = compute_forces_virials(
            energy, positions, displacement, cell, keep_graph, asked.stress
        )
    elif asked.force:
        forces = compute_forces(energy, positions, keep_graph)
    if asked.hessian:
        assert forces is not None, "forces are needed for the hessian"
        # Upstream takes a view of them.
        hessian = compute_hessians_vmap(forces.contiguous(), positions)
    return Derivatives(forces, virials, stress, hessian)
