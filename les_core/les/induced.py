r"""Charges and dipoles that the field of other atoms induces, by the published formulas.

With the potential :math:`\phi` and the field :math:`\mathbf E=-\nabla\phi` of all permanent
moments, less what a moment does to itself where that is left out of the energy,

.. math::
    \delta q_i = -\kappa_i\phi_i,\quad \delta\mathbf u_i = \alpha_i(\mathbf E_i+\mathcal E),\qquad
    \Delta E = \tfrac12\sum_i\phi_i\,\delta q_i - \tfrac12\sum_i\mathbf E_i\cdot\delta\mathbf u_i,

in one step: induced moments do not feel one another (``les.self_consistent`` has those that do).
Without the external field :math:`\mathcal E` forces are derivatives of this energy. With it they
are, too, but the energy is not that of the moments in the field: their products, but those of the
induced dipoles with half the field of the atoms, are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.checks import check_finite, check_like_positions, check_tensors
from les.sums.sources import Fields, Moments


class Response(NamedTuple):
    """How charges and dipoles of atoms answer to potentials and fields.

    Attributes:
        kappas: ``[n_atoms]`` [e^2/eV], or ``None`` for charges that stay.
        alphas: polarisabilities ``[n_atoms]`` or ``[n_atoms, 3, 3]`` [e^2 A^2/eV], or ``None``.
    """

    kappas: Tensor | None
    alphas: Tensor | None

    def of(self, potential: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """Induced charges ``[n_atoms]`` [e] and dipoles ``[n_atoms, 3]`` [e A]."""
        charges, dipoles = torch.zeros_like(potential), torch.zeros_like(field)
        if self.kappas is not None:
            charges = -self.kappas * potential
        if self.alphas is not None:
            dipoles = polarised(self.alphas, field)
        return charges, dipoles


class Induced(NamedTuple):
    """Induced moments, and the energies that they add.

    Attributes:
        charges: ``[n_atoms]`` [e].
        dipoles: ``[n_atoms, 3]`` [e A].
        atom_energies: ``[n_atoms]`` [eV].
    """

    charges: Tensor
    dipoles: Tensor
    atom_energies: Tensor


def polarised(alphas: Tensor, field: Tensor) -> Tensor:
    """Dipoles ``[n_atoms, 3]`` that polarisabilities of either shape have in a field."""
    if alphas.dim() == 1:
        return alphas.unsqueeze(1) * field
    return (alphas @ field.unsqueeze(2)).squeeze(2)


def induced_in_one_step(
    response: Response, fields: Fields, external: Tensor | None = None
) -> Induced:
    """Moments that the permanent ones induce, and what that adds to the energy.

    Args:
        response: that :func:`checked_response` returned.
        fields: of the permanent moments, of one channel.
        external: external field at the atoms ``[n_atoms, 3]`` [V/A].
    """
    assert fields.gradient is not None
    potential, own = fields.potential.squeeze(1), -fields.gradient.squeeze(1)
    charges, dipoles = response.of(potential, own if external is None else own + external)
    shares = 0.5 * (potential * charges - (own * dipoles).sum(dim=1))
    return Induced(charges, dipoles, shares)


def checked_response(
    moments: Moments,
    kappas: Tensor | None = None,
    alphas: Tensor | None = None,
    names: tuple[str, str] = ("kappas", "alphas"),
) -> Response:
    """Responses of the shapes that they must have; ``names`` are those in messages.

    Raises:
        ValueError: for other shapes than those of :class:`Response`, values that are not finite,
            and several channels.
        TypeError: for what is no tensor, and other dtypes than that of the moments.
    """
    check_tensors(True, **dict(zip(names, (kappas, alphas), strict=True)))
    n_atoms, n_channels = moments.charges.shape
    if n_channels != 1:
        raise ValueError(
            f"induced charges and dipoles need one charge on each atom, got {n_channels} channels"
        )
    allowed = [[n_atoms]], [[n_atoms], [n_atoms, 3, 3]]
    for name, value, shapes in zip(names, (kappas, alphas), allowed, strict=True):
        if value is None:
            continue
        if list(value.shape) not in shapes:
            raise ValueError(
                f"`{name}` must have shape {' or '.join(map(str, shapes))}, got {list(value.shape)}"
            )
        check_like_positions(name, value, moments.charges)
        check_finite(name, value)
    return Response(kappas, alphas)


def field_at_atoms(field: Tensor, positions: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """An external field ``[3]`` or ``[n_structures, 3]`` [V/A] at the atoms ``[n_atoms, 3]``.

    Raises:
        ValueError: for other shapes, and values that are not finite.
        TypeError: for what is no tensor, and other dtypes than that of the positions.
    """
    check_tensors(e_ext=field)
    if list(field.shape) not in ([3], [n_structures, 3]):
        raise ValueError(
            f"`e_ext` must have shape [3] or [n_structures, 3] = [{n_structures}, 3], got "
            f"{list(field.shape)}"
        )
    check_like_positions("e_ext", field, positions)
    check_finite("e_ext", field)
    if field.dim() == 1:
        return field.expand(positions.shape[0], 3)
    return field.index_select(0, batch)


def refuse_periodic_response_of_charges(pbc: Tensor) -> None:
    """Raise ``ValueError`` for exact Born effective charges where induced charges have no end.

    Args:
        pbc: ``[n_structures, 3]``, boolean.
    """
    periodic = pbc.any(dim=1)
    if bool(periodic.any()):
        raise ValueError(
            f"structure {int(torch.nonzero(periodic)[0])} is periodic: exact Born effective "
            "charges are not available for models with `use_induced_charge`, whose charges depend "
            "on all atoms of a crystal; the published approximation is, with bec='phase'"
        )
