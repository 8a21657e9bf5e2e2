r"""Born effective charges of fragments, each of which keeps its total charge.

The polarisation of a structure is the sum of the dipoles of its fragments,

.. math:: P = \sum_i q_i (r_i + R_i), \qquad
    Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\partial P_\alpha/\partial r_{i\beta},

with lattice vectors R that put the atoms of a fragment together. Which image of a fragment is taken
makes no difference to the derivative, because the sum of its charges does not change; and what is
moved is an atom with all its images, as in the definition of Born effective charges, without a
macroscopic field. So this is exact in a cell of any size. A fragment without end, such as a polymer
or a layer, has no such R along some axes, and is refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.conjugate_gradients import Groups
from les.sums.reciprocal.lattice import exactly

#: A fragment that comes as close to its own image as this times its longest link has no end.
REACH = 1.5


def fragment_evaluation(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    periodic: Tensor,
    batch: Tensor,
    fragments: Groups,
    epsilon_factor: float,
    create_graph: bool,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e], of arguments that have been checked.

    Args:
        charges: latent charges ``[n_atoms]`` [e], whose sum in each fragment is constant.
        positions: ``[n_atoms, 3]`` [A], which the charges depend on.
        cell: ``[n_structures, 3, 3]`` [A].
        periodic: periodic axes of each structure ``[n_structures, 3]``.
        batch: structure of each atom ``[n_atoms]``.
        fragments: those of all structures.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable.

    Raises:
        ValueError: for a fragment without end.
    """
    together = exactly(positions) + lattice_shifts(positions, cell, periodic, batch, fragments)
    q = math.sqrt(epsilon_factor) * exactly(charges)
    rows = [
        torch.autograd.grad(
            (q * together[:, axis]).sum(), positions, retain_graph=True, create_graph=create_graph
        )[0]
        for axis in range(3)
    ]
    result = torch.stack(rows, dim=1)
    return result if create_graph else result.detach()


def lattice_shifts(
    positions: Tensor, cell: Tensor, periodic: Tensor, batch: Tensor, fragments: Groups
) -> Tensor:
    """Lattice vectors ``[n_atoms, 3]`` [A], in float64, that put the atoms of fragments together.

    The atoms of a fragment are linked to one another by the shortest tree of nearest images.

    Raises:
        ValueError: for a fragment that comes close to its own image; the message names an atom.
    """
    from ase.geometry import complete_cell, minkowski_reduce

    shifts = torch.zeros_like(exactly(positions))
    owner, of_atoms = fragments.owner.cpu().numpy(), batch.cpu().numpy()
    for structure in torch.nonzero(periodic.any(dim=1)).flatten().tolist():
        atoms = np.flatnonzero(of_atoms == structure)
        places = exactly(positions.detach()).cpu().numpy()[atoms]
        axes = periodic[structure].cpu().numpy()
        vectors = exactly(cell[structure].detach()).cpu().numpy() * axes[:, None]
        vectors = minkowski_reduce(complete_cell(vectors), axes)[0]
        for fragment in np.unique(owner[atoms]):
            members = np.flatnonzero(owner[atoms] == fragment)
            found = _shifts(places[members], vectors, axes)
            if found is None:
                raise ValueError(
                    f"the fragment of atom {atoms[members[0]]} is as close to its own image in the "
                    "next cell as to itself: charges flow without end along it, as in a metal, and "
                    "it has no Born effective charges (`fragment`)"
                )
            shifts[torch.as_tensor(atoms[members], device=shifts.device)] = torch.as_tensor(
                found, device=shifts.device
            )
    return shifts


def _shifts(
    places: NDArray[Any], vectors: NDArray[Any], axes: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Shifts of the atoms of one fragment, in a reduced cell; ``None`` of one without end."""
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    first, second = np.triu_indices(len(places))
    apart = places[second] - places[first]
    nearest = -np.round(apart @ np.linalg.inv(vectors)) * axes
    steps = np.stack(np.meshgrid(*[[-1, 0, 1] if x else [0] for x in axes], indexing="ij"), axis=-1)
    images = (nearest[:, None] + steps.reshape(1, -1, 3)) @ vectors
    lengths = np.linalg.norm(apart[:, None] + images, axis=-1)
    best = lengths.argmin(axis=1)
    pairs = np.arange(len(first))
    between = np.zeros((len(places), len(places)))
    between[first, second] = lengths[pairs, best]
    shift = np.zeros((len(places), len(places), 3))
    shift[first, second] = images[pairs, best]
    shift[second, first] = -images[pairs, best]
    tree = minimum_spanning_tree(between)
    order, before = breadth_first_order(tree, 0, directed=False)
    found = np.zeros_like(places)
    for atom in order[1:]:
        found[atom] = found[before[atom]] + shift[before[atom], atom]
    # Every other image than the one that was taken must be farther away than what is linked.
    taken = (found[second] - found[first])[:, None]
    others = np.abs(images - taken).max(axis=-1) > 1e-6
    longest = float(tree.max()) if len(places) > 1 else 0.0
    return None if (lengths[others] < REACH * longest).any() else found
