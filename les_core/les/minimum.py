r"""The minimum of the energy of charges, as a function of autograd.

Derivatives are implicit. W does not change when charges change a little, so that its first
derivatives are those at fixed charges. For a gradient g with respect to the charges, one more
equilibration, of :math:`\chi = -g` and fragments without charge, gives charges y, and gradients are
those of :math:`-\sum_i y_i(\chi_i + \eta_i q_i + \phi_i)` at fixed q and y. The second one is
differentiated as the first one is, so that there are derivatives of any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.conjugate_gradients import (
    ROUNDING,
    Convergence,
    Groups,
    Solution,
    conjugate_gradients,
    without_sums,
)
from les.implicit import aliases, gradients
from les.sums.method import Settings
from les.sums.plan import Plan, evaluate, make_plan, with_charges
from les.sums.reciprocal.lattice import exactly
from les.sums.system import Given


class Problem(NamedTuple):
    """What equilibration depends on without being differentiated."""

    settings: Settings
    structures: Groups
    #: Parts of structures, each of which keeps its total charge.
    fragments: Groups
    pbc: Tensor | None
    convergence: Convergence

    def plan(self, charges: Tensor, positions: Tensor, cell: Tensor) -> Plan:
        batch = self.structures.owner
        return make_plan(Given(charges, positions, cell, batch, self.pbc), self.settings)

    def potential(self, charges: Tensor, positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``[n_structures]`` and potentials ``[n_atoms]``."""
        energy, potential = evaluate(self.plan(charges, positions, cell), True)
        assert potential is not None
        return energy, potential.squeeze(-1)


class Minimum(torch.autograd.Function):
    """Charges, energies of atoms, and how often and how far each structure was iterated."""

    @staticmethod
    def forward(
        electronegativity: Tensor,
        hardness: Tensor,
        positions: Tensor,
        cell: Tensor,
        fragment_charge: Tensor | None,
        problem: Problem,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        even = _spread_evenly(fragment_charge, positions, problem)
        plan = problem.plan(even.to(positions.dtype), positions, cell)
        solution = _solve(plan, exactly(electronegativity), exactly(hardness), even, problem)
        _check(solution, problem)
        charges = (even + solution.values).to(positions.dtype)
        _, potential = evaluate(with_charges(plan, charges.unsqueeze(-1)), True)
        assert potential is not None
        shares = electronegativity + 0.5 * (hardness * charges + potential.squeeze(-1))
        return charges, charges * shares, solution.iterations, solution.residual

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, _, ctx.problem = inputs
        ctx.save_for_backward(*tensors, output[0])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, to_charges: Tensor | None, to_shares: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        chi, eta, positions, cell, q = ctx.saved_tensors
        problem: Problem = ctx.problem
        if to_charges is None and to_shares is None:
            return (None,) * 6
        energy_weights, others = _weights_of_structures(to_shares, problem)
        if others is not None:
            # Shares by themselves change with the charges, unlike their sum.
            of_weighted = problem.potential(others * q, positions, cell)[1]
            potential = problem.potential(q, positions, cell)[1]
            by_charges = others * (chi + eta * q + 0.5 * potential) + 0.5 * of_weighted
            to_charges = by_charges if to_charges is None else to_charges + by_charges
        response: Tensor | None = None
        if to_charges is not None:
            response = Minimum.apply(-to_charges, eta, positions, cell, None, problem)[0]
        to_chi, to_eta = torch.zeros_like(q), torch.zeros_like(q)
        if to_shares is not None:
            to_chi, to_eta = to_shares * q, 0.5 * to_shares * q * q
        if response is not None:
            to_chi, to_eta = to_chi - response, to_eta - response * q
        of_potential = None if response is None else -response
        if others is not None and of_potential is not None:
            of_potential = of_potential + 0.5 * others * q
        to_places = _by_places(q, positions, cell, energy_weights, of_potential, ctx)
        return to_chi, to_eta, *to_places, None, None


def _by_places(
    q: Tensor,
    positions: Tensor,
    cell: Tensor,
    energy_weights: Tensor | None,
    of_potential: Tensor | None,
    ctx: Any,
) -> list[Tensor | None]:
    """Gradients by positions and cells of weighted energies and potentials, at fixed charges."""
    wanted = list(ctx.needs_input_grad[2:4])
    if not any(wanted):
        return [None, None]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, because charges and weights may depend on positions as well.
        leaves: Any = aliases([positions, cell], wanted, again)
        plan = ctx.problem.plan(q if again else q.detach(), *leaves)
        energy, potential = evaluate(plan, of_potential is not None)
        weighted = energy.new_zeros(())
        if energy_weights is not None:
            weighted = weighted + (energy_weights * energy).sum()
        if of_potential is not None and potential is not None:
            weighted = weighted + (of_potential * potential.squeeze(-1)).sum()
        return gradients(weighted, leaves, wanted, again)


def _solve(
    plan: Plan, electronegativity: Tensor, hardness: Tensor, even: Tensor, problem: Problem
) -> Solution:
    """How charges differ from those that are spread evenly. All but the plan is in float64."""
    dtype = plan.system.positions.dtype

    def multiply(charges: Tensor, *combined: Tensor) -> Tensor:
        _, potential = evaluate(with_charges(plan, charges.to(dtype).unsqueeze(-1)), True)
        assert potential is not None
        return hardness * charges + exactly(potential.squeeze(-1))

    right = -electronegativity
    if bool((even != 0).any()):
        right = right - multiply(even)
    diagonal = hardness + 2.0 * plan.settings.coefficients(False)[1]
    structures = problem.structures
    rounding = ROUNDING**2 * structures.total(right.square() / diagonal)
    precondition = without_sums(diagonal, problem.fragments)
    return conjugate_gradients(
        multiply, precondition, right, structures, problem.convergence, rounding
    )


def _check(solution: Solution, problem: Problem) -> None:
    failed = ~solution.converged
    if bool(failed.any()):
        structure = int(torch.nonzero(failed)[0])
        tolerance, most = problem.convergence
        raise RuntimeError(
            f"charge equilibration of structure {structure} did not converge in "
            f"{most} iterations: the relative residual is "
            f"{float(solution.residual[structure]):.1e}, it must be below "
            f"{tolerance:g} (`equilibration_iterations`, `equilibration_tolerance`)"
        )


def _spread_evenly(fragment_charge: Tensor | None, positions: Tensor, problem: Problem) -> Tensor:
    """Charges ``[n_atoms]`` in float64 that sum to those of fragments, alike within each."""
    even = torch.zeros_like(exactly(positions[:, 0]))
    if fragment_charge is None:
        return even
    count = problem.fragments.total(even + 1.0).clamp(min=1.0)
    return even + (fragment_charge.to(even.dtype) / count)[problem.fragments.owner]


def _weights_of_structures(
    weights: Tensor | None, problem: Problem
) -> tuple[Tensor | None, Tensor | None]:
    """Weights ``[n_structures]``, and what those of atoms are beyond them, if that is anything."""
    if weights is None:
        return None, None
    n_atoms, batch = weights.shape[0], problem.structures.owner
    atoms = torch.arange(n_atoms, device=batch.device)
    first = batch.new_full([problem.structures.number], n_atoms).scatter_reduce(
        0, batch, atoms, "amin"
    )
    of_structures = torch.cat([weights, weights.new_zeros(1)])[first]
    others = weights - of_structures[batch]
    same = not weights.requires_grad and not bool((others.detach() != 0).any())
    return of_structures, None if same else others
