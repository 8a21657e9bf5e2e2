r"""Born effective charges that are exact in any cell, from moments in the backward pass.

.. math:: Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\Big[q_i\,\delta_{\alpha\beta}
    + \sum_j (r_j - r_i)_\alpha\,\partial q_j/\partial r_{i\beta}\Big]

The sum runs over all atoms j of an infinite crystal whose charges feel atom i. A graph neural
network carries that dependence along its edges, so that every lever arm
:math:`r_j - r_i` is a sum of edge vectors. For any quantity x that belongs to an atom let

.. math:: a_x = \sum_j \partial q_j/\partial x, \qquad
    b_x = \sum_j (r_j - r_x)\,\partial q_j/\partial x.

What happens on one atom takes :math:`a` and :math:`b` backwards alike: both are what reverse
differentiation computes. Only where features are carried from atom s to atom m does the
reference change, and :math:`b_s` is what arrives at s of
:math:`b_m + (r_m - r_s)\,a_m`. By linearity :math:`b` is therefore the gradient that starts from
:math:`(r_m - r_s)\,a_m` at each of these places: one backward pass gives all :math:`a`,
and one more for each direction in space gives :math:`b`. No position modulo the cell appears, and
the receptive field may be larger than the cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from les.neutrality import shifted_charges
from les.response.arguments import BornSettings
from les.response.dipoles import structure_mean
from les.structures import Structures
from les.sums.checks import check_tensors
from les.sums.reciprocal.lattice import exactly, open_directions, reciprocal_vectors


class Carried(NamedTuple):
    """Features that a model carries from one atom to another.

    Attributes:
        features: ``[n, ...]``, the tensor itself from which the model computes the charges, after
            the features have been gathered from their atoms and before anything is summed.
        displacement: ``[n, 3]`` [A], from the atom that each row of features comes from to the
            image of the atom that uses it.
    """

    features: Tensor
    displacement: Tensor


class Edges(NamedTuple):
    """The graph along which a model's charges depend on positions.

    Attributes:
        vectors: ``[n_edges, 3]`` [A], from atom ``start`` to atom ``end``, images included. This
            must be the tensor itself through which the charges depend on positions, or several
            such tensors in order, for example one for each structure of a batch.
        start: ``[n_edges]``, index of the atom.
        end: ``[n_edges]``, index of the atom.
        carried: every place where features of one atom are passed to another, in any order.
        centre: the end of an edge at which its features are used, by the model's convention.
    """

    vectors: Tensor | Sequence[Tensor]
    start: Tensor
    end: Tensor
    carried: Sequence[Carried] = ()
    centre: Literal["start", "end"] = "end"

    @property
    def parts(self) -> list[Tensor]:
        """The tensors of ``vectors``, in order."""
        return [self.vectors] if isinstance(self.vectors, Tensor) else list(self.vectors)

    def check(self, n_atoms: int) -> None:
        """Refuse values that are no tensors, have wrong shapes or do not require gradients.

        Raises:
            TypeError: for values that are no tensors.
            ValueError: for other shapes, types and indices, and vectors without gradients.
        """
        parts = self.parts
        if not parts:
            raise ValueError("`edges.vectors` must be a tensor or several, got none")
        for part in parts:
            check_tensors(False, **{"edges.vectors": part})
            if part.dim() != 2 or part.shape[1] != 3:
                raise ValueError(
                    f"`edges.vectors` must have shape [n_edges, 3], got {list(part.shape)}"
                )
        n_edges = sum(len(part) for part in parts)
        for name, index in (("start", self.start), ("end", self.end)):
            check_tensors(False, **{f"edges.{name}": index})
            if index.shape != (n_edges,) or index.dtype not in (torch.int32, torch.int64):
                raise ValueError(
                    f"`edges.{name}` must be {n_edges} indices of atoms, one for each of "
                    f"`edges.vectors`, got {index.dtype} of shape {list(index.shape)}"
                )
            outside = (index < 0) | (index >= n_atoms)
            if bool(outside.any()):
                found = int(index[outside][0])
                raise ValueError(f"`edges.{name}` must be between 0 and {n_atoms - 1}, got {found}")
        for place, (features, displacement) in enumerate(self.carried):
            name = f"edges.carried[{place}]"
            check_tensors(
                False, **{f"{name}.features": features, f"{name}.displacement": displacement}
            )
            if features.dim() == 0 or displacement.shape != (features.shape[0], 3):
                raise ValueError(
                    f"`{name}.displacement` must have shape [n, 3] for features of shape "
                    f"[n, ...], got {list(displacement.shape)} for {list(features.shape)}"
                )
        if self.centre not in ("start", "end"):
            raise ValueError(f"`edges.centre` must be 'start' or 'end', got {self.centre!r}")
        if not all(part.requires_grad for part in parts):
            raise ValueError("`edges.vectors` must require gradients for Born effective charges")


def moment_evaluation(
    charges: Tensor,
    structures: Structures,
    edges: Edges,
    settings: BornSettings,
    total_charge: Tensor | None = None,
) -> Tensor:
    """Born effective charges of checked arguments, without a look at their values.

    ``charges`` are ``[n_atoms]``, and ``structures`` tell their ``pbc``; see
    :func:`les.born_effective_charges`.
    """
    remove_mean, epsilon_factor, create_graph = settings
    positions, _, batch, _ = structures
    plain, moments = _moments(charges, edges, create_graph)
    lever = torch.cat(edges.parts).unsqueeze(2) * plain.unsqueeze(1)
    if edges.centre == "end":
        at_end, at_start = moments, moments + lever
    else:
        at_end, at_start = moments - lever, moments
    dtype, n_structures = charges.dtype, structures.cell.shape[0]
    flow = positions.new_zeros([positions.shape[0], 3, 3], dtype=plain.dtype)
    flow = flow.index_add(0, edges.end, at_end).index_add(0, edges.start, -at_start)

    q = exactly(charges)
    if remove_mean:
        q = shifted_charges(q, total_charge, batch, n_structures, epsilon_factor)
    unit = torch.eye(3, dtype=q.dtype, device=q.device)
    total = positions.new_zeros([positions.shape[0], 3], dtype=plain.dtype)
    total = total.index_add(0, edges.end, plain).index_add(0, edges.start, -plain)
    arms = _open_arms(structures, remove_mean)
    result = q.view(-1, 1, 1) * unit + flow + arms.unsqueeze(2) * total.unsqueeze(1)
    result = (math.sqrt(epsilon_factor) * result).to(dtype)
    return result if create_graph else result.detach()


def _moments(charges: Tensor, edges: Edges, create_graph: bool) -> tuple[Tensor, Tensor]:
    r"""The sums :math:`a` and :math:`b` of the edge vectors, ``[n_edges, 3]`` and ``[..., 3, 3]``.

    The latter has the component of the lever arm first.
    """
    vectors = edges.parts
    carried = [place for place in edges.carried if place.features.requires_grad]

    def gradients(
        outputs: list[Tensor], inputs: list[Tensor], starts: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            outputs,
            inputs,
            starts,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )

    features = [place.features for place in carried]
    found = gradients([charges], [*vectors, *features], [torch.ones_like(charges)])
    plain = found[: len(vectors)]
    if any(part is None for part in plain):
        raise ValueError(
            "`charges` must be computed from `edges.vectors` by differentiable operations"
        )
    adjoints: list[Tensor] = []
    for place, adjoint in zip(carried, found[len(vectors) :], strict=True):
        if adjoint is None:
            raise ValueError(
                f"`edges.carried` has features of shape {list(place.features.shape)} that "
                "`charges` do not come from: they must be the very tensors that the model goes on "
                "with, not copies, and those without effect on charges be left out"
            )
        adjoints.append(adjoint)
    rows = []
    for axis in range(3):
        starts = [
            _along(place.displacement[:, axis], adjoint) * adjoint
            for place, adjoint in zip(carried, adjoints, strict=True)
        ]
        row = gradients(features, vectors, starts) if carried else [None] * len(vectors)
        rows.append(_joined(row, vectors))
    return _joined(plain, vectors), torch.stack(rows, dim=1)


def _joined(gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> Tensor:
    """One tensor of the gradients of ``inputs``, zero where there are none."""
    return torch.cat(
        [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs, strict=True)]
    )


def _along(lengths: Tensor, features: Tensor) -> Tensor:
    """``lengths`` ``[n]`` as a factor of ``features`` ``[n, ...]``."""
    return lengths.to(features.dtype).view([-1] + [1] * (features.dim() - 1))


def _open_arms(structures: Structures, remove_mean: bool) -> Tensor:
    """Lever arms of the charge that an atom adds to its structure, ``[n_atoms, 3]`` [A].

    A total charge that depends on positions moves the dipole of what is finite: along open
    directions the mean is taken off everywhere in the structure, which leaves the distance from
    its centre. In an infinite crystal the mean of all charges does not feel one atom.
    """
    positions, cell, batch, periodic = structures
    assert periodic is not None
    arms = exactly(positions)
    if remove_mean:
        arms = arms - structure_mean(arms, batch, cell.shape[0])
    return open_part(arms, exactly(cell), batch, periodic)


def open_part(arms: Tensor, cell: Tensor, batch: Tensor, periodic: Tensor) -> Tensor:
    """Parts of ``arms`` ``[n_atoms, 3]`` along the open directions of their structures."""
    vectors = torch.where(periodic.unsqueeze(-1), cell, open_directions(cell, periodic))
    along = (arms.unsqueeze(1) @ reciprocal_vectors(vectors)[0].transpose(1, 2)[batch]).squeeze(1)
    along = along * ~periodic[batch]
    return (along.unsqueeze(1) @ vectors[batch]).squeeze(1)
