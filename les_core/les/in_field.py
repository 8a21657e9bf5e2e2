r"""Charges and dipoles in a homogeneous external field, which is an input of a model.

With charges and dipoles as they are reported, times the square root of ``epsilon_factor``, and the
external field :math:`\mathcal E`,

.. math:: E = E_0 - \mathcal E\cdot\sum_i (q_i\mathbf r_i + \mathbf u_i),

so that the dipole of a molecule is :math:`-\partial E/\partial\mathcal E`. Positions are taken as
they are given: the energy of an ion depends on the origin, its forces do not.

The dipole of the charges of a periodic structure has many values, and so has its energy in a field.
Its part of the energy is left out. Its forces are unique,
:math:`F_{i\beta}=F^0_{i\beta}+\mathcal E_\alpha Z^*_{i\alpha\beta}` with the Born effective charges
of the charges (``les.born_effective_charges``) less what their sum has beside the total charge
:math:`Q`, of which all :math:`n` atoms of the structure take an equal share,

.. math:: Z^*_{i\alpha\beta} \leftarrow Z^*_{i\alpha\beta}
    - \tfrac1n\Bigl(\sum_j Z^*_{j\alpha\beta} - Q\,\delta_{\alpha\beta}\Bigr),

so that the field moves the centre of a neutral crystal no more than that of a molecule
(``les.response.sum_rules``). A model adds these forces by :func:`pulled`. Dipoles of atoms have one
value, and are in the energy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.response.dipoles import structure_mean
from les.structures import Structures
from les.sums.checks import has_volume


def in_crystals(field: Tensor, cell: Tensor, pbc: Tensor | None) -> Tensor:
    """Which structures are periodic and in a field ``[n_structures]``, boolean.

    Args:
        field: ``[n_structures, 3]`` [V/A].
        cell, pbc: as for ``les.Ewald``.
    """
    periodic = has_volume(cell) if pbc is None else pbc.any(dim=1)
    return periodic & (field != 0).any(dim=1)


def field_on_crystals(
    field: Tensor, structures: Structures, *, charges_respond: bool
) -> Tensor | None:
    """The field at atoms of periodic structures ``[n_atoms, 3]`` [V/A], zero at others.

    Args:
        field: ``[n_structures, 3]`` [V/A].
        structures: where the atoms are.
        charges_respond: whether charges respond to a field, of periodic structures as of others.

    Returns:
        ``None`` if no periodic structure is in a field.

    Raises:
        ValueError: for one whose charges respond.
    """
    _, cell, batch, pbc = structures
    found = in_crystals(field, cell, pbc)
    if not bool(found.any()):
        return None
    if charges_respond:
        refuse_charges_that_flow(field, cell, pbc)
    return torch.where(found.unsqueeze(1), field, 0.0)[batch]


def pulled(structures: Structures, field: Tensor, born: Tensor, charges: Tensor) -> Tensor:
    """Energies of zero ``[n_atoms]``, whose forces are those of a field on charges.

    The forces on a structure sum to its total charge times the field. They are differentiable once,
    with respect to Born effective charges.

    Args:
        structures: where the atoms are.
        field: what :func:`field_on_crystals` returned.
        born: Born effective charges of the charges ``[n_atoms, 3, 3]`` [e].
        charges: the charges ``[n_atoms]`` [e], which sum to the total charge of each structure.
    """
    positions, cell, batch, _ = structures
    forces = torch.einsum("na,nab->nb", field, born)
    beside = forces - charges.detach().reshape(-1, 1) * field
    forces = forces - structure_mean(beside, batch, cell.shape[0])
    energies: Tensor = _Pull.apply(positions, forces)
    return energies


class _Pull(torch.autograd.Function):
    """Energies of zero, whose forces are ``forces``."""

    @staticmethod
    def forward(positions: Tensor, forces: Tensor) -> Tensor:
        return torch.zeros_like(positions[:, 0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return -incoming.unsqueeze(1) * ctx.saved_tensors[0], None


def shares_in_field(
    field: Tensor, charges: Tensor, dipoles: Tensor | None, structures: Structures
) -> Tensor:
    """What a field adds to the energies of atoms, but for charges of periodic structures.

    Args:
        field: at the atoms ``[n_atoms, 3]`` [V/A].
        charges: ``[n_atoms]`` [e].
        dipoles: of the atoms ``[n_atoms, 3]`` [e A], or ``None``.
        structures: where they are.

    Returns:
        ``[n_atoms]`` [eV].
    """
    everywhere = -charges * (structures.positions * field).sum(dim=1)
    shares = everywhere - shares_of_images(field, charges, structures)
    return shares if dipoles is None else shares - (dipoles * field).sum(dim=1)


def shares_of_images(field: Tensor, charges: Tensor, structures: Structures) -> Tensor:
    """What is left out there ``[n_atoms]`` [eV]: it depends on the images that atoms are in."""
    positions, cell, batch, pbc = structures
    periodic = has_volume(cell) if pbc is None else pbc.any(dim=1)
    work = -charges * (positions * field).sum(dim=1)
    return work.masked_fill(~periodic[batch], 0.0)


def refuse_charges_that_flow(field: Tensor, cell: Tensor, pbc: Tensor | None) -> None:
    """Refuse periodic structures in a field whose charges respond to it.

    Args:
        field: ``[n_structures, 3]`` [V/A].
        cell, pbc: as for ``les.Ewald``.

    Raises:
        ValueError: naming the first such structure.
    """
    wrong = in_crystals(field, cell, pbc)
    if bool(wrong.any()):
        raise ValueError(
            f"structure {int(torch.nonzero(wrong)[0])} is periodic and in an external field: "
            "charges that respond (`use_induced_charge`, `charge_equilibration`) would flow to the "
            "end of its cell"
        )
