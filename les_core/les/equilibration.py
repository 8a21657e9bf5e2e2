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

Derivatives are implicit (``les.minimum``).

Charges flow through all of a structure, as in a metal. In an infinite crystal they screen whatever
moves: Born effective charges vanish there. Where the sum is kept by each fragment of a structure
instead (``les.fragments``), charges flow within fragments alone, and a liquid of molecules is an
insulator, with Born effective charges (``les.response.fragments``).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from les.conjugate_gradients import DEFAULT_CONVERGENCE, Convergence, Groups
from les.fragments import charges_of_fragments, fragments_of
from les.minimum import Minimum, Problem
from les.neutrality import check_total_charge
from les.structures import NO_SUMS, ChargeSums, Structures
from les.sums.checks import check_finite, check_like_positions, check_tensors, has_volume
from les.sums.method import Settings

logger = logging.getLogger("les")


class Equilibrium(NamedTuple):
    r"""Equilibrated charges and their energy.

    Attributes:
        charges: ``[n_atoms]`` [e].
        atom_energies: shares of W ``[n_atoms]`` [eV],
            :math:`\chi_i q_i + \eta_i q_i^2/2 + q_i\phi_i/2`.
        iterations: number of iterations of each structure ``[n_structures]``.
        residual: of each structure ``[n_structures]``, relative to its start, as the iterations
            carry it along; in float32 the charges are no better than float32 potentials.
    """

    charges: Tensor
    atom_energies: Tensor
    iterations: Tensor
    residual: Tensor


def equilibrate(
    electronegativity: Tensor,
    hardness: Tensor,
    structures: Structures,
    settings: Settings,
    sums: ChargeSums = NO_SUMS,
    convergence: Convergence = DEFAULT_CONVERGENCE,
) -> Equilibrium:
    """Charges that minimise the energy of each structure, and their energy.

    All results but the last two are differentiable any number of times, with respect to
    electronegativities, hardnesses, positions and cells.

    Args:
        electronegativity: ``[n_atoms]`` [eV/e].
        hardness: ``[n_atoms]`` [eV/e^2], beyond the interaction of a Gaussian charge with itself.
        structures: where the atoms are.
        settings: of the sum; ``remove_self_interaction`` makes no difference here.
        sums: what the charges of each structure, and of its fragments, sum to.
        convergence: where iterations end; residuals are relative to that of charges which are
            spread evenly.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, and as ``les.fragments`` for fragments and their
            charges; for electronegativities and hardnesses that are not
            one finite number for each atom, hardnesses that are not positive, and a
            ``total_charge`` that requires gradients.
        RuntimeError: where charges do not converge; the message names the structure.
    """
    positions, cell, batch, pbc = structures
    total_charge, fragment, fragment_charge = sums
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
    check_total_charge(total_charge, electronegativity, len(cell))
    if total_charge is not None:
        if total_charge.requires_grad:
            raise ValueError(
                "`total_charge` must not require gradients: charge equilibration has no "
                "derivatives with respect to it"
            )
        total_charge = total_charge.detach()
    n_structures = len(cell)
    fragments = fragments_of(fragment, batch, n_structures)
    of_fragments = charges_of_fragments(
        fragments, fragment_charge, total_charge, batch, n_structures
    )
    settings = settings._replace(remove_self_interaction=False)
    problem = Problem(settings, Groups(batch, n_structures), fragments, pbc, convergence)
    found: tuple[Tensor, ...] = Minimum.apply(
        electronegativity, hardness, positions, cell, of_fragments, problem
    )
    result = Equilibrium(*found)
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "charge equilibration took %d iterations at most, residuals are up to %.1e",
            int(result.iterations.max()),
            float(result.residual.max()),
        )
    return result


def refuse_periodic_response(
    cell: Tensor, pbc: Tensor | None, fragment: Tensor | None = None
) -> None:
    """Refuse what a crystal or a slab has not, through all of which charges flow.

    Raises:
        ValueError: for a structure with a periodic axis, where no fragments are told.
    """
    periodic = has_volume(cell) if pbc is None else pbc.any(dim=1)
    if fragment is None and bool(periodic.any()):
        raise ValueError(
            f"structure {int(torch.nonzero(periodic)[0])} is periodic: equilibrated charges flow "
            "through all of a crystal, as in a metal, and screen whatever moves, so that it has no "
            "Born effective charges and no polarisability; molecules have, and structures whose "
            "fragments each have a total charge (`charge_equilibration`, `fragment`)"
        )
