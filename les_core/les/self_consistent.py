r"""Induced charges and dipoles that feel one another: those that minimise the energy.

With moments m of an atom, permanent ones and induced ones x, and their response K (``kappas`` and
``alphas``), the energy is

.. math::
    W = \min_x\ E(m+x) + \tfrac12x\cdot K^{-1}x
        - \mathcal E\cdot\sum_i\big((q_i+\delta q_i)\mathbf r_i+\mathbf u_i+\delta\mathbf u_i\big),

so that forces are its derivatives at fixed x = K s, with
:math:`s=-\partial E/\partial x+\mathcal E\cdot\partial/\partial x(\dots)`. Induced charges sum to
zero in each structure: K takes the mean, weighted by the kappas, off what they feel. The equation
for s,

.. math:: s + TKs = f,

with the interaction T of charges and dipoles and the drive f of permanent moments and of the field,
is solved by conjugate gradients (``les.response_solver``). Derivatives are implicit and of any
order.

Where the interaction of moments with themselves is left out W may have no minimum: the
polarisation catastrophe, of large polarisabilities close to each other. With that interaction E is
a sum of squares, and there always is one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.implicit import aliases, gradients
from les.induced import Induced, Response
from les.multipoles import multipole_energies, shares_of_atoms
from les.response_solver import Dual, Surroundings, require_minimum
from les.sums.checks import has_volume
from les.sums.reciprocal.lattice import exactly
from les.sums.sources import Moments


class _Inputs(NamedTuple):
    """What W is differentiated with respect to."""

    charges: Tensor
    dipoles: Tensor
    quadrupoles: Tensor | None
    kappas: Tensor
    alphas: Tensor
    positions: Tensor
    cell: Tensor
    field: Tensor


def self_consistent_energies(
    around: Surroundings,
    moments: Moments,
    response: Response,
    positions: Tensor,
    cell: Tensor,
    external: Tensor | None = None,
) -> tuple[Tensor, Induced]:
    """Energies of permanent and induced moments, and the induced ones.

    All are differentiable any number of times, with respect to moments, responses, positions,
    cells and the field.

    Args:
        around: settings of the sum, and the structures.
        moments: permanent ones, of one channel.
        response: that ``les.induced.checked_response`` returned.
        positions, cell: as for ``les.Ewald``.
        external: field at the atoms ``[n_atoms, 3]`` [V/A]. Charges are where ``positions`` say, in
            whatever image of the cell.

    Returns:
        W ``[n_structures]`` [eV], and induced charges, dipoles, and shares of W, all of it,
        ``[n_atoms]`` [eV].

    Raises:
        ValueError: as ``les.Ewald``; for a response that is negative in any direction; for a field
            on periodic structures whose charges respond.
        RuntimeError: for a polarisation catastrophe, and where iterations do not converge.
    """
    if external is not None:
        _refuse_flow(around, response, cell, external)
    kappas, alphas = _checked(response, positions)
    require_minimum(kappas, alphas, positions, cell, around)
    field = torch.zeros_like(positions) if external is None else external
    charges, dipoles, quadrupoles = moments
    if dipoles is None:
        dipoles = charges.new_zeros([*charges.shape, 3])
    inputs = _Inputs(charges, dipoles, quadrupoles, kappas, alphas, positions, cell, field)
    dual = Dual.apply(_drive(around, inputs), kappas, alphas, positions, cell, around)
    energy: Tensor = _Energy.apply(dual, around, *inputs)
    answer = around.answer(dual, kappas, alphas)
    _, shares = _energies(around, dual, inputs)
    return energy, Induced(answer[:, 0], answer[:, 1:], shares)


def polarisabilities(
    around: Surroundings, response: Response, positions: Tensor, cell: Tensor
) -> Tensor:
    """Polarisabilities of structures from the responses of their atoms, at fixed nuclei.

    They are differentiable with respect to responses, positions and cells.

    Args:
        around, response, positions, cell: as for :func:`self_consistent_energies`.

    Returns:
        ``[n_structures, 3, 3]`` [e^2 A^2/eV], symmetric; of a crystal that of its cell, without a
        field of charges on its surface.

    Raises:
        ValueError, RuntimeError: as :func:`self_consistent_energies` with a field.
    """
    _refuse_flow(around, response, cell)
    kappas, alphas = _checked(response, positions)
    require_minimum(kappas, alphas, positions, cell, around)
    columns = []
    for axis in range(3):
        field = torch.zeros_like(positions)
        field[:, axis] = 1.0
        drive = torch.cat([positions[:, axis : axis + 1], field], dim=1)
        dual = Dual.apply(drive, kappas, alphas, positions, cell, around)
        answer = around.answer(dual, kappas, alphas)
        dipoles = answer[:, :1] * positions + answer[:, 1:]
        total = positions.new_zeros(around.n_structures, 3)
        columns.append(total.index_add(0, around.batch, dipoles))
    return torch.stack(columns, dim=2)


def _refuse_flow(
    around: Surroundings, response: Response, cell: Tensor, external: Tensor | None = None
) -> None:
    """A field, other than zero, is refused where charges of a periodic structure respond to it."""
    periodic = has_volume(cell) if around.pbc is None else around.pbc.any(dim=1)
    if external is not None:
        felt = around.structures.total(external.detach().abs().sum(dim=1))
        periodic = periodic & (felt > 0)
    if response.kappas is not None and bool(periodic.any()):
        raise ValueError(
            f"structure {int(torch.nonzero(periodic)[0])} is periodic: charges that respond "
            "(`kappas`) would flow to the end of its cell in an external field (`e_ext`)"
        )


def _checked(response: Response, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Kappas and alphas, zero where there are none.

    Raises:
        ValueError: for a response that is negative in any direction.
    """
    found = []
    for name, value in (("kappas", response.kappas), ("alphas", response.alphas)):
        given = torch.zeros_like(positions[:, 0]) if value is None else value
        least = given.detach()
        if least.dim() == 3:
            slack = 1e-6 * least.abs().amax(dim=(1, 2))
            skew = (least - least.mT).abs().amax(dim=(1, 2)) > slack
            if bool(skew.any()):
                atom = int(torch.nonzero(skew)[0])
                raise ValueError(
                    f"`{name}` must be symmetric, got {least[atom].tolist()} of atom {atom}"
                )
            least = torch.linalg.eigvalsh(exactly(least))[:, 0] + exactly(slack)
        if bool((least < 0).any()):
            atom = int(torch.nonzero(least < 0)[0])
            raise ValueError(
                f"`{name}` must not be negative in any direction, got "
                f"{given[atom].detach().tolist()} of atom {atom}: the energy of induced moments "
                "would have no minimum"
            )
        found.append(given)
    return found[0], found[1]


def _drive(around: Surroundings, inputs: _Inputs) -> Tensor:
    """What permanent moments and the field do to charges and dipoles ``[n_atoms, 4]``."""
    charges, dipoles, quadrupoles, _, _, positions, cell, field = inputs
    moments = Moments(charges, dipoles, quadrupoles)
    _, fields = multipole_energies(
        around.settings, moments, positions, cell, around.batch, around.pbc
    )
    assert fields is not None and fields.gradient is not None
    arms = (positions * field).sum(dim=1, keepdim=True)
    return torch.cat([arms - fields.potential, field - fields.gradient.squeeze(1)], dim=1)


def _energies(around: Surroundings, dual: Tensor, inputs: _Inputs) -> tuple[Tensor, Tensor]:
    """W of x = K s, with s as given, and shares of the atoms."""
    charges, dipoles, quadrupoles, kappas, alphas, positions, cell, field = inputs
    answer = around.answer(dual, kappas, alphas)
    charges, dipoles = charges + answer[:, :1], dipoles + answer[:, 1:].unsqueeze(1)
    moments = Moments(charges, dipoles, quadrupoles)
    energy, fields = multipole_energies(
        around.settings, moments, positions, cell, around.batch, around.pbc
    )
    assert fields is not None
    total = charges * positions + dipoles.squeeze(1)
    others = 0.5 * (dual * answer).sum(dim=1) - (total * field).sum(dim=1)
    return energy + around.structures.total(others), others + shares_of_atoms(moments, fields)


class _Energy(torch.autograd.Function):
    """W, which does not change with s."""

    @staticmethod
    def forward(dual: Tensor, around: Surroundings, *inputs: Any) -> Tensor:
        return _energies(around, dual, _Inputs(*inputs))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dual, ctx.around, *others = inputs
        ctx.save_for_backward(dual, *others)

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        dual, *inputs = ctx.saved_tensors
        wanted, again = list(ctx.needs_input_grad[2:]), torch.is_grad_enabled()
        with torch.enable_grad():
            own: Any = aliases(inputs, wanted, again)
            dual = dual if again else dual.detach()
            value = (incoming * _energies(ctx.around, dual, _Inputs(*own))[0]).sum()
            found = gradients(value, own, wanted, again)
        return None, None, *found
