r"""Charge equilibration: charges that minimise the energy of their structure.

With an electronegativity :math:`\chi_i` and a hardness :math:`\eta_i > 0` of each atom, the charges
of a structure are those that minimise

.. math:: W(q) = \sum_i \big(\chi_i q_i + \tfrac12\eta_i q_i^2\big) + E(q), \qquad \sum_i q_i = Q,

and W is its energy. E is the sum of ``les.Ewald`` *with* the interaction of each Gaussian charge
with itself: it is the energy of the field of smooth charges, or a sum of squares with weights that
are not negative, so that :math:`E(q) \ge 0` for all charges that sum to zero, and the minimum is
unique for any positive hardness. (The sum of a charged slab has a negative term, which depends on
its total charge alone, and that does not change here.) Without that interaction E has no lower
bound, and hardnesses would have to exceed :math:`2k_e/(\sigma\sqrt{2\pi})`.

The minimum solves :math:`H q + \chi = \mu` with :math:`H = \eta + \partial\phi/\partial q`, by
conjugate gradients, for which H is never made: only potentials of charges are needed.

Derivatives are implicit. W does not change when charges change a little, so that its first
derivatives are those at fixed charges. For a gradient g with respect to the charges, one more
equilibration, of :math:`\chi = -g` and total charge zero, gives charges y, and gradients are
those of :math:`-\sum_i y_i(\chi_i + \eta_i q_i + \phi_i)` at fixed q and y. The second one is
differentiated as the first one is, so that there are derivatives of any order.

Charges flow through all of a structure, as in a metal. In an infinite crystal they screen whatever
moves: Born effective charges vanish there, and are those of finite structures only.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.conjugate_gradients import Solution, conjugate_gradients
from les.sums.checks import check_finite, check_like_positions, check_tensors, has_volume
from les.sums.method import Settings
from les.sums.plan import Plan, evaluate, make_plan
from les.sums.reciprocal.lattice import exactly
from les.sums.system import Given

logger = logging.getLogger("les")

#: Residual of the charges at the end, relative to that of charges which are spread evenly.
DEFAULT_TOLERANCE = 1e-8

#: Iterations after which equilibration has failed.
DEFAULT_ITERATIONS = 200


class Equilibrium(NamedTuple):
    r"""Equilibrated charges and their energy.

    Attributes:
        charges: ``[n_atoms]`` [e].
        atom_energies: shares of W ``[n_atoms]`` [eV],
            :math:`\chi_i q_i + \eta_i q_i^2/2 + q_i\phi_i/2`.
        iterations: number of iterations of each structure ``[n_structures]``.
        residual: of each structure ``[n_structures]``, relative to its start.
    """

    charges: Tensor
    atom_energies: Tensor
    iterations: Tensor
    residual: Tensor


class _Problem(NamedTuple):
    """What equilibration depends on without being differentiated."""

    settings: Settings
    batch: Tensor
    pbc: Tensor | None
    n_structures: int
    tolerance: float
    iterations: int

    def plan(self, charges: Tensor, positions: Tensor, cell: Tensor) -> Plan:
        return make_plan(Given(charges, positions, cell, self.batch, self.pbc), self.settings)

    def potential(self, charges: Tensor, positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``[n_structures]`` and potentials ``[n_atoms]``."""
        energy, potential = evaluate(self.plan(charges, positions, cell), True)
        assert potential is not None
        return energy, potential.squeeze(-1)


def equilibrate(
    electronegativity: Tensor,
    hardness: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor,
    pbc: Tensor | None,
    total_charge: Tensor | None,
    settings: Settings,
    tolerance: float = DEFAULT_TOLERANCE,
    iterations: int = DEFAULT_ITERATIONS,
) -> Equilibrium:
    """Charges that minimise the energy of each structure, and their energy.

    All results but the last two are differentiable any number of times, with respect to
    electronegativities, hardnesses, positions and cells.

    Args:
        electronegativity: ``[n_atoms]`` [eV/e].
        hardness: ``[n_atoms]`` [eV/e^2], beyond the interaction of a Gaussian charge with itself.
        positions, cell, pbc: as for ``les.Ewald``.
        batch: structure of each atom ``[n_atoms]``, ascending.
        total_charge: what the charges of each structure sum to ``[n_structures]`` [e]; zero
            without it.
        settings: of the sum; ``remove_self_interaction`` makes no difference here.
        tolerance: largest residual, relative to that of charges which are spread evenly.
        iterations: how many iterations there are at most.

    Raises:
        ValueError, TypeError: as ``les.Ewald``; for electronegativities and hardnesses that are not
            one finite number for each atom, hardnesses that are not positive, and a
            ``total_charge`` that requires gradients.
        RuntimeError: where charges do not converge; the message names the structure.
    """
    for name, value in (("electronegativity", electronegativity), ("hardness", hardness)):
        check_tensors(False, **{name: value})
        if value.shape != positions.shape[:1]:
            raise ValueError(
                f"`{name}` must have shape [n_atoms] = [{positions.shape[0]}], got "
                f"{list(value.shape)}"
            )
        check_like_positions(name, value, positions)
        check_finite(name, value)
    wrong = hardness.detach() <= 0
    if bool(wrong.any()):
        atom = int(torch.nonzero(wrong)[0])
        raise ValueError(
            f"`hardness` must be positive, got {float(hardness[atom].detach())} eV/e^2 of atom "
            f"{atom}: the energy of charges would have no minimum"
        )
    if total_charge is not None:
        if total_charge.requires_grad:
            raise ValueError(
                "`total_charge` must not require gradients: charge equilibration has no "
                "derivatives with respect to it"
            )
        total_charge = total_charge.detach()
    settings = settings._replace(remove_self_interaction=False)
    problem = _Problem(settings, batch, pbc, cell.shape[0], tolerance, iterations)
    found: tuple[Tensor, ...] = _Equilibration.apply(
        electronegativity, hardness, positions, cell, total_charge, problem
    )
    result = Equilibrium(*found)
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "charge equilibration took %d iterations at most, residuals are up to %.1e",
            int(result.iterations.max()),
            float(result.residual.max()),
        )
    return result


class _Equilibration(torch.autograd.Function):
    @staticmethod
    def forward(
        electronegativity: Tensor,
        hardness: Tensor,
        positions: Tensor,
        cell: Tensor,
        total_charge: Tensor | None,
        problem: _Problem,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        even = _spread_evenly(total_charge, positions, problem)
        plan = problem.plan(even.to(positions.dtype), positions, cell)
        solution = _solve(plan, exactly(electronegativity), exactly(hardness), even, problem)
        _check(solution, problem)
        charges = (even + solution.values).to(positions.dtype)
        _, potential = evaluate(_with_charges(plan, charges), True)
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
        problem: _Problem = ctx.problem
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
            response = _Equilibration.apply(-to_charges, eta, positions, cell, None, problem)[0]
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
    wanted = ctx.needs_input_grad[2:4]
    if not any(wanted):
        return [None, None]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, because charges and weights may depend on positions as well.
        leaves = [
            (value.view_as(value) if again else value.detach()) for value in (positions, cell)
        ]
        leaves = [
            leaf if leaf.requires_grad else leaf.detach().requires_grad_(flag)
            for leaf, flag in zip(leaves, wanted, strict=True)
        ]
        charges = q if again else q.detach()
        plan = ctx.problem.plan(charges, *leaves)
        energy, potential = evaluate(plan, of_potential is not None)
        weighted = energy.new_zeros(())
        if energy_weights is not None:
            weighted = weighted + (energy_weights * energy).sum()
        if of_potential is not None and potential is not None:
            weighted = weighted + (of_potential * potential.squeeze(-1)).sum()
        chosen = [leaf for leaf, flag in zip(leaves, wanted, strict=True) if flag]
        if not weighted.requires_grad:  # without atoms
            found = [torch.zeros_like(leaf) for leaf in chosen]
        else:
            found = list(
                torch.autograd.grad(
                    weighted, chosen, create_graph=again, allow_unused=True, materialize_grads=True
                )
            )
    remaining = iter(found)
    return [next(remaining) if flag else None for flag in wanted]


def _solve(
    plan: Plan, electronegativity: Tensor, hardness: Tensor, even: Tensor, problem: _Problem
) -> Solution:
    """How charges differ from those that are spread evenly. All but the plan is in float64."""
    dtype = plan.system.positions.dtype

    def multiply(charges: Tensor) -> Tensor:
        _, potential = evaluate(_with_charges(plan, charges.to(dtype)), True)
        assert potential is not None
        return hardness * charges + exactly(potential.squeeze(-1))

    right = -electronegativity
    if bool((even != 0).any()):
        right = right - multiply(even)
    diagonal = hardness + 2.0 * plan.settings.coefficients(False)[1]
    return conjugate_gradients(
        multiply,
        right,
        diagonal,
        problem.batch,
        problem.n_structures,
        problem.tolerance,
        problem.iterations,
    )


def _check(solution: Solution, problem: _Problem) -> None:
    failed = ~solution.converged
    if bool(failed.any()):
        structure = int(torch.nonzero(failed)[0])
        raise RuntimeError(
            f"charge equilibration of structure {structure} did not converge in "
            f"{problem.iterations} iterations: the relative residual is "
            f"{float(solution.residual[structure]):.1e}, it must be below "
            f"{problem.tolerance:g} (`equilibration_iterations`, `equilibration_tolerance`)"
        )


def _with_charges(plan: Plan, charges: Tensor) -> Plan:
    """The same structures with other charges ``[n_atoms]``."""
    channel = charges.unsqueeze(-1)
    shares = []
    for share in plan.shares:
        own = channel if share.atoms is None else channel.index_select(0, share.atoms)
        system = share.part.system._replace(charges=own)
        shares.append(share._replace(part=share.part._replace(system=system)))
    return plan._replace(system=plan.system._replace(charges=channel), shares=shares)


def _spread_evenly(total_charge: Tensor | None, positions: Tensor, problem: _Problem) -> Tensor:
    """Charges ``[n_atoms]`` in float64 that sum to the total charge, all alike in a structure."""
    even = torch.zeros_like(exactly(positions[:, 0]))
    if total_charge is None:
        return even
    count = even.new_zeros(problem.n_structures).index_add(0, problem.batch, even + 1.0)
    count = count.clamp(min=1.0)
    return even + (total_charge.to(even.dtype) / count)[problem.batch]


def _weights_of_structures(
    weights: Tensor | None, problem: _Problem
) -> tuple[Tensor | None, Tensor | None]:
    """Weights ``[n_structures]``, and what those of atoms are beyond them, if that is anything."""
    if weights is None:
        return None, None
    n_atoms, batch = weights.shape[0], problem.batch
    atoms = torch.arange(n_atoms, device=batch.device)
    first = batch.new_full([problem.n_structures], n_atoms).scatter_reduce(0, batch, atoms, "amin")
    of_structures = torch.cat([weights, weights.new_zeros(1)])[first]
    others = weights - of_structures[batch]
    same = not weights.requires_grad and not bool((others.detach() != 0).any())
    return of_structures, None if same else others


def refuse_periodic_response(cell: Tensor, pbc: Tensor | None) -> None:
    """Refuse Born effective charges of equilibrated charges in a crystal or a slab.

    Raises:
        ValueError: for a structure with a periodic axis.
    """
    periodic = has_volume(cell) if pbc is None else pbc.any(dim=1)
    if bool(periodic.any()):
        raise ValueError(
            f"structure {int(torch.nonzero(periodic)[0])} is periodic: equilibrated charges flow "
            "through all of a crystal, as in a metal, and screen whatever moves, so that it has no "
            "Born effective charges; molecules have (`charge_equilibration`)"
        )
