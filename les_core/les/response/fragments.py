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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.conjugate_gradients import Groups
from les.response.dipoles import structure_mean
from les.structures import Structures
from les.sums.reciprocal.lattice import exactly

#: Change of the sum of a fragment's charges with positions that is rounding [e/A].
ROUNDING = 1e-4

#: A fragment has no end where two of its atoms come as close across an image as this times the sum
#: of their radii, which are half of the longest link of each.
REACH = 1.5


def fragment_evaluation(
    charges: Tensor,
    structures: Structures,
    fragments: Groups,
    epsilon_factor: float,
    create_graph: bool,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e], of arguments that have been checked.

    Args:
        charges: latent charges ``[n_atoms]`` [e], whose sum in each fragment is constant.
        structures: where the atoms are, which the charges depend on, with ``pbc`` told.
        fragments: those of all structures.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable.

    Raises:
        ValueError: for a fragment without end, and charges whose sum in a fragment changes with
            positions.
    """
    positions = structures.positions
    _require_kept_sums(charges, positions, fragments)
    together = exactly(positions) + lattice_shifts(structures, fragments)
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


def lattice_shifts(structures: Structures, fragments: Groups) -> Tensor:
    """Lattice vectors ``[n_atoms, 3]`` [A], in float64, that put the atoms of fragments together.

    ``structures`` tell their ``pbc``. The atoms of a fragment are linked to one another by the
    shortest tree of nearest images.

    Raises:
        ValueError: for a fragment that comes close to its own image; the message names an atom.
    """
    positions, cell, batch, periodic = structures
    assert periodic is not None
    places = exactly(positions.detach()).cpu().numpy()
    axes, cells = periodic.cpu().numpy(), exactly(cell.detach()).cpu().numpy()
    of_atoms, owner = batch.cpu().numpy(), fragments.owner.cpu().numpy()
    vectors = {
        structure: _reduced(cells[structure][axes[structure]])
        for structure in np.flatnonzero(axes.any(axis=1)).tolist()
    }
    shifts = np.zeros_like(places)
    order = np.argsort(owner, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        if len(members) == 0 or int(of_atoms[members[0]]) not in vectors:
            continue
        images = _Images(places[members], vectors[int(of_atoms[members[0]])])
        found, reach = _joined(images)
        if _meets_itself(images, found, reach):
            raise ValueError(
                f"the fragment of atom {members[0]} is as close to its own image in the next cell "
                "as to itself: charges flow without end along it, as in a metal, and it has no "
                "Born effective charges (`fragment`)"
            )
        shifts[members] = found - images.places
    return torch.as_tensor(shifts, device=positions.device)


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


class _Images:
    """The images of the atoms of one fragment around each other, one row of pairs at a time."""

    def __init__(self, places: NDArray[Any], vectors: NDArray[Any]) -> None:
        """``vectors`` ``[n, 3]`` are those of a reduced cell."""
        self.places = places
        self._vectors, self._inverse = vectors, np.linalg.pinv(vectors)
        self.offsets = _steps(len(vectors)) @ vectors
        self._squares = (self.offsets**2).sum(axis=1)
        self._codes = 3 ** np.arange(len(vectors))[::-1]

    def around(self, atom: int, first: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Vectors from an atom to all others from ``first`` on, and how far away images are.

        Returns:
            Vectors to one image of each ``[n_others, 3]``, and the lengths of them with each of the
            ``offsets`` added ``[n_others, n_offsets]``.
        """
        apart = self.places[first:] - self.places[atom]
        apart = apart - np.round(apart @ self._inverse) @ self._vectors
        squares = (apart**2).sum(axis=1)[:, None] + 2.0 * apart @ self.offsets.T + self._squares
        return apart, np.sqrt(squares.clip(min=0.0))

    def leave_out(self, lengths: NDArray[Any], difference: NDArray[Any]) -> None:
        """Take the images at lattice vectors ``difference`` ``[n_others, 3]`` out of lengths."""
        steps = np.round(difference @ self._inverse).astype(int)
        inside = np.flatnonzero((np.abs(steps) <= 1).all(axis=1))
        lengths[inside, (steps[inside] + 1) @ self._codes] = np.inf


def _joined(images: _Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The atoms of a fragment put together, and the longest link of each.

    Links are those of the shortest tree (R. C. Prim, Bell Syst. Tech. J. 36, 1389 (1957)), each
    from an atom that is in the tree to one that is not.
    """
    n_atoms = len(images.places)
    rows = np.arange(n_atoms)
    joined, reach = images.places.copy(), np.zeros(n_atoms)
    outside = rows != 0
    nearest, before = np.full(n_atoms, np.inf), np.zeros(n_atoms, dtype=int)
    atom = 0
    for _ in range(n_atoms - 1):
        apart, lengths = images.around(atom)
        best = lengths.argmin(axis=1)
        shortest = lengths[rows, best]
        closer = outside & (shortest < nearest)
        nearest[closer], before[closer] = shortest[closer], atom
        joined[closer] = joined[atom] + (apart + images.offsets[best])[closer]
        atom = int(np.where(outside, nearest, np.inf).argmin())
        outside[atom] = False
        for end in (atom, before[atom]):
            reach[end] = max(reach[end], nearest[atom])
    return joined, reach


def _meets_itself(images: _Images, joined: NDArray[Any], reach: NDArray[Any]) -> bool:
    """Whether another image than the one in its place is as close to an atom as what is linked."""
    for atom in range(len(joined)):
        apart, lengths = images.around(atom, atom)
        images.leave_out(lengths, joined[atom:] - joined[atom] - apart)
        radii = 0.5 * (reach[atom] + reach[atom:])
        if (lengths < REACH * radii[:, None]).any():
            return True
    return False
