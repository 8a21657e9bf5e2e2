r"""Born effective charges of fragments, each of which keeps its total charge.

The polarisation of a structure is the sum of the dipoles of its fragments,

.. math:: P = \sum_i q_i (r_i + R_i), \qquad
    Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\partial P_\alpha/\partial r_{i\beta},

with lattice vectors R that put the atoms of a fragment together. Which image of a fragment is taken
makes no difference to the derivative, because the sum of its charges does not change, nor does the
origin, which is put at its centre for the sake of rounding; and what is moved is an atom with all
its images, as in the definition of Born effective charges, without a macroscopic field. So this is
exact in a cell of any size. A fragment without end, such as a polymer or a layer, has no such R
along some axes, and is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.conjugate_gradients import Groups
from les.response.dipoles import structure_mean
from les.sums.reciprocal.lattice import exactly

#: Change of the sum of a fragment's charges with positions that is rounding [e/A].
ROUNDING = 1e-4

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
        ValueError: for a fragment without end, and charges whose sum in a fragment changes with
            positions.
    """
    _require_kept_sums(charges, positions, fragments)
    together = exactly(positions) + lattice_shifts(positions, cell, periodic, batch, fragments)
    centre = structure_mean(together.detach(), fragments.owner, fragments.number)
    arms = together - centre
    q = math.sqrt(epsilon_factor) * exactly(charges)
    rows = [
        torch.autograd.grad(
            (q * arms[:, axis]).sum(), positions, retain_graph=True, create_graph=create_graph
        )[0]
        for axis in range(3)
    ]
    result = torch.stack(rows, dim=1)
    return result if create_graph else result.detach()


def _require_kept_sums(charges: Tensor, positions: Tensor, fragments: Groups) -> None:
    """Raise ``ValueError`` where the sums of fragments change, of all of them at once.

    Their sum with random weights changes where one of them does.
    """
    if not charges.requires_grad:
        return
    generator = torch.Generator(device="cpu").manual_seed(0)  # the same on all devices
    weights = 0.5 + torch.rand(
        fragments.number, dtype=torch.float64, device="cpu", generator=generator
    )
    weights = weights.to(charges.device)[fragments.owner]
    change = torch.autograd.grad(
        (weights * exactly(charges)).sum(),
        positions,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )[0].abs()
    if bool((change > ROUNDING).any()):
        atom = int(change.amax(dim=1).argmax())
        raise ValueError(
            "`charges` of each `fragment` must keep their sum, got some that change with the place "
            f"of atom {atom}: Born effective charges would depend on the origin"
        )


def lattice_shifts(
    positions: Tensor, cell: Tensor, periodic: Tensor, batch: Tensor, fragments: Groups
) -> Tensor:
    """Lattice vectors ``[n_atoms, 3]`` [A], in float64, that put the atoms of fragments together.

    The atoms of a fragment are linked to one another by the shortest tree of nearest images.

    Raises:
        ValueError: for a fragment that comes close to its own image; the message names an atom.
    """
    shifts = torch.zeros_like(exactly(positions))
    owner, of_atoms = fragments.owner.cpu().numpy(), batch.cpu().numpy()
    for structure in torch.nonzero(periodic.any(dim=1)).flatten().tolist():
        atoms = np.flatnonzero(of_atoms == structure)
        places = exactly(positions.detach()).cpu().numpy()[atoms]
        axes = periodic[structure].cpu().numpy()
        vectors = _reduced(exactly(cell[structure].detach()).cpu().numpy()[axes])
        for fragment in np.unique(owner[atoms]):
            members = np.flatnonzero(owner[atoms] == fragment)
            found = _shifts(places[members], vectors)
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


def _reduced(vectors: NDArray[Any]) -> NDArray[Any]:
    """The shortest vectors of the same lattice, which at most three vectors ``[n, 3]`` span.

    A vector is exchanged while a sum with the others, each added once, taken off once or left out,
    is shorter: in three dimensions what is left is reduced in the sense of H. Minkowski.
    """
    rows = vectors.copy()
    steps = _steps(len(rows) - 1)
    index = 0
    unchanged = 0
    while unchanged < len(rows):
        sums = rows[index] + steps @ np.delete(rows, index, axis=0)
        lengths = np.linalg.norm(sums, axis=1)
        shorter = lengths.min() < (1.0 - 1e-9) * np.linalg.norm(rows[index])
        if shorter:
            rows[index] = sums[lengths.argmin()]
        unchanged = 0 if shorter else unchanged + 1
        index = (index + 1) % len(rows)
    return rows


def _steps(number: int) -> NDArray[np.int_]:
    """All ``number`` values out of -1, 0 and 1, ``[3^number, number]``."""
    return np.array(list(itertools.product((-1, 0, 1), repeat=number)), dtype=int)


def _shifts(places: NDArray[Any], vectors: NDArray[Any]) -> NDArray[np.float64] | None:
    """Shifts of the atoms of one fragment, in a reduced cell; ``None`` of one without end."""
    n_atoms = len(places)
    first, second = np.triu_indices(n_atoms)
    apart = places[second] - places[first]
    nearest = -np.round(apart @ np.linalg.pinv(vectors))
    images = (nearest[:, None] + _steps(len(vectors))) @ vectors
    lengths = np.linalg.norm(apart[:, None] + images, axis=-1)
    best = lengths.argmin(axis=1)
    pairs = np.arange(len(first))
    between = np.full((n_atoms, n_atoms), np.inf)
    between[first, second] = between[second, first] = lengths[pairs, best]
    shift = np.zeros((n_atoms, n_atoms, 3))
    shift[first, second] = images[pairs, best]
    shift[second, first] = -images[pairs, best]
    found = np.zeros_like(places)
    longest = 0.0
    for before, atom in _shortest_tree(between):
        found[atom] = found[before] + shift[before, atom]
        longest = max(longest, between[before, atom])
    # Every other image than the one that was taken must be farther away than what is linked.
    taken = (found[second] - found[first])[:, None]
    others = np.abs(images - taken).max(axis=-1) > 1e-6
    return None if (lengths[others] < REACH * longest).any() else found


def _shortest_tree(lengths: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Links of the shortest tree, from atom 0 on (R. C. Prim, Bell Syst. Tech. J. 36, 1389 (1957)).

    ``lengths`` ``[n_atoms, n_atoms]`` are those of all links. Each link is from an atom that is in
    the tree to one that is not.
    """
    inside = np.arange(len(lengths)) == 0
    nearest, before = lengths[0].copy(), np.zeros(len(lengths), dtype=int)
    while not inside.all():
        atom = int(np.where(inside, np.inf, nearest).argmin())
        yield int(before[atom]), atom
        inside[atom] = True
        closer = lengths[atom] < nearest
        nearest[closer], before[closer] = lengths[atom][closer], atom
