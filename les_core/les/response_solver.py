r"""Induced moments that feel one another, as a function of autograd: s of ``s + T K s = drive``.

T is the interaction of charges and dipoles, K their response to what they feel
(``les.self_consistent``). It is solved by conjugate gradients with K in the place of the
preconditioner, so that neither T is made nor K inverted: atoms may have no response. Derivatives
are implicit: those of a solution are another one, which is differentiated as the first one is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.conjugate_gradients import Convergence, Groups, conjugate_gradients
from les.implicit import aliases, gradients
from les.induced import polarised
from les.sums.method import Settings
from les.sums.plan import Plan, evaluate, make_plan, with_charges
from les.sums.reciprocal.lattice import exactly
from les.sums.system import Given

#: Residual at which no direction without a minimum is left in a drive that has all of them.
PROBE_TOLERANCE = 1e-6


class Surroundings(NamedTuple):
    """What induced moments depend on without being differentiated."""

    settings: Settings
    batch: Tensor
    pbc: Tensor | None
    n_structures: int
    convergence: Convergence = Convergence(tolerance=1e-9)

    def plan(self, sources: Tensor, positions: Tensor, cell: Tensor) -> Plan:
        """How charges and dipoles ``[n_atoms, 4]`` are summed."""
        given = Given(sources, positions, cell, self.batch, self.pbc)
        return make_plan(given, self.settings, 4)

    def felt(self, sources: Tensor, positions: Tensor, cell: Tensor) -> Tensor:
        """T times charges and dipoles ``[n_atoms, 4]``."""
        felt = evaluate(self.plan(sources, positions, cell), True)[1]
        assert felt is not None
        return felt

    def answer(self, dual: Tensor, kappas: Tensor, alphas: Tensor) -> Tensor:
        """K times numbers ``[n_atoms, 4]``."""
        total = self.structures.total
        weight = total(kappas).clamp(min=torch.finfo(kappas.dtype).tiny)
        mean = total(kappas * dual[:, 0]) / weight
        charges = kappas * (dual[:, 0] - mean[self.batch])
        return torch.cat([charges.unsqueeze(1), polarised(alphas, dual[:, 1:])], dim=1)

    @property
    def structures(self) -> Groups:
        """Which atoms are one structure."""
        return Groups(self.batch, self.n_structures)


class Dual(torch.autograd.Function):
    """The solution s of ``s + T K s = drive``."""

    @staticmethod
    def forward(
        drive: Tensor,
        kappas: Tensor,
        alphas: Tensor,
        positions: Tensor,
        cell: Tensor,
        around: Surroundings,
    ) -> Tensor:
        return _solve(drive, kappas, alphas, positions, cell, around)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *leaves, ctx.around = inputs
        ctx.save_for_backward(output, *leaves)

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        dual, *leaves = ctx.saved_tensors
        around, again = ctx.around, torch.is_grad_enabled()
        kappas, alphas, positions, cell = leaves
        # (1 + K T)^-1 = 1 - K (1 + T K)^-1 T.
        felt = around.felt(incoming, positions, cell)
        answer = around.answer(Dual.apply(felt, *leaves, around), kappas, alphas)
        to_drive = incoming - answer
        wanted = list(ctx.needs_input_grad[1:5])
        with torch.enable_grad():
            own: Any = aliases(leaves, wanted, again)
            sources = around.answer(dual if again else dual.detach(), own[0], own[1])
            product = around.felt(sources, own[2], own[3])
            weights = to_drive if again else to_drive.detach()
            found = gradients(-(weights * product).sum(), own, wanted, again)
        return to_drive, *found, None


def require_minimum(
    kappas: Tensor, alphas: Tensor, positions: Tensor, cell: Tensor, around: Surroundings
) -> None:
    """Look for a polarisation catastrophe in all directions, not only in those of a drive.

    Where a structure is symmetric its drive may have no part of the moments whose energy has no
    minimum, and conjugate gradients never meet them. They grow from any drive that has a part of
    them, as random numbers do. With the interaction of moments with themselves there are none.

    Args:
        kappas, alphas: responses, as they are solved with.
        positions, cell: as for ``les.Ewald``.
        around: settings of the sum, and the structures.

    Raises:
        RuntimeError: for a polarisation catastrophe, and where iterations do not converge.
    """
    if not around.settings.remove_self_interaction:
        return
    generator = torch.Generator(device="cpu").manual_seed(0)  # the same on all devices
    drive = torch.randn(
        len(positions), 4, dtype=torch.float64, device="cpu", generator=generator
    ).to(positions)
    convergence = around.convergence._replace(tolerance=PROBE_TOLERANCE)
    around = around._replace(convergence=convergence)
    with torch.no_grad():
        _solve(drive, kappas, alphas, positions, cell, around)


def _solve(
    drive: Tensor,
    kappas: Tensor,
    alphas: Tensor,
    positions: Tensor,
    cell: Tensor,
    around: Surroundings,
) -> Tensor:
    """Conjugate gradients. All but T is in float64."""
    dtype, plan = positions.dtype, around.plan(torch.zeros_like(drive), positions, cell)
    kappas, alphas, right = exactly(kappas), exactly(alphas), exactly(drive)

    def felt(sources: Tensor) -> Tensor:
        found = evaluate(with_charges(plan, sources.to(dtype)), True)[1]
        assert found is not None
        return exactly(found)

    def respond(residual: Tensor) -> tuple[Tensor, Tensor]:
        return residual, around.answer(residual, kappas, alphas)

    structures = around.structures
    _refuse(
        ~torch.isfinite(structures.total(right * respond(right)[1])),
        "what charges and dipoles of structure {} feel is no finite number",
    )
    # With K in the place of the preconditioner, what a direction is made of is its K^-1.
    solution = conjugate_gradients(
        lambda direction, dual: dual + felt(direction),
        respond,
        right,
        structures,
        around.convergence,
    )
    _refuse(
        ~solution.positive,
        "polarisation catastrophe in structure {}: the energy of its induced moments has no "
        "minimum; `alphas` or `kappas` are too large for atoms so close to each other, or the "
        "width `sigma` is too small",
    )
    _refuse(
        ~solution.converged,
        "induced moments of structure {} did not converge in "
        f"{around.convergence.iterations} iterations",
    )
    return (right - felt(solution.values)).to(dtype)


def _refuse(failed: Tensor, message: str) -> None:
    """Raise ``RuntimeError`` with the number of the first structure that has failed."""
    if bool(failed.any()):
        raise RuntimeError(message.format(int(torch.nonzero(failed)[0])))
