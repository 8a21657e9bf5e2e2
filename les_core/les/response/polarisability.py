r"""The polarisability of molecules, and of cells of them, whose charges are equilibrated.

In a homogeneous field :math:`\mathcal{E}` the energy of equilibrated charges
(``les.equilibration``) is

.. math:: W(q) - \sqrt{\epsilon_\infty}\,\mathcal{E}\cdot\sum_i q_i r_i,

so that the field takes :math:`\sqrt{\epsilon_\infty}\,\mathcal{E}\cdot r_i` off the
electronegativity of each atom. W is quadratic in the charges: they are linear in the field, and

.. math:: \alpha_{ab} = \frac{\partial\mu_a}{\partial\mathcal{E}_b}
    = \sqrt{\epsilon_\infty}\sum_i r_{ia}\frac{\partial q_i}{\partial\mathcal{E}_b}

is exact for any field. Its columns are the charges of three more equilibrations, without
electronegativities but those of the field, and with a total charge of zero. Nuclei are at rest.

In a periodic structure each fragment keeps its total charge (``les.fragments``), and positions are
those that put its atoms together. The field is the macroscopic one then, which charges of the
sum without boundaries do not change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.conjugate_gradients import DEFAULT_CONVERGENCE, Convergence
from les.equilibration import equilibrate, refuse_periodic_response
from les.ewald import Ewald
from les.fragments import fragments_of
from les.ranges import check_number
from les.response.dipoles import structure_mean
from les.response.fragments import lattice_shifts
from les.structures import ChargeSums, Structures
from les.sums.checks import check_tensors


def polarisability(
    ewald: Ewald,
    hardness: Tensor,
    structures: Structures,
    fragment: Tensor | None = None,
    epsilon_factor: float = 1.0,
    convergence: Convergence = DEFAULT_CONVERGENCE,
) -> Tensor:
    """Polarisabilities of structures with equilibrated charges, at fixed nuclei.

    They are differentiable with respect to hardnesses and positions.

    Args:
        ewald: the sum.
        hardness: ``[n_atoms]`` [eV/e^2], positive.
        structures: where the atoms are, with ``pbc`` told.
        fragment: label of the fragment of each atom ``[n_atoms]``, between which no charge flows.
        epsilon_factor: high-frequency dielectric constant.
        convergence: where the iterations of the equilibration end.

    Returns:
        ``[n_structures, 3, 3]`` [e^2 A^2 / eV], symmetric, and positive for any direction along
        which a molecule extends.

    Raises:
        ValueError, TypeError: as ``les.equilibration.equilibrate``; for an ``epsilon_factor``
            that is not positive, a periodic structure without fragments, and a fragment without
            end.
        RuntimeError: where charges do not converge.
    """
    check_number("epsilon_factor", epsilon_factor)
    positions, cell, batch, pbc = structures
    check_tensors(positions=positions, hardness=hardness)
    refuse_periodic_response(cell, pbc, fragment)
    n_structures = len(cell)
    fragments = fragments_of(fragment, batch, n_structures)
    shifts = lattice_shifts(structures, fragments)
    places = positions + shifts.to(positions.dtype)
    arms = places - structure_mean(places, fragments.owner, fragments.number)
    columns = []
    for axis in range(3):
        found = equilibrate(
            -arms[:, axis],
            hardness,
            structures,
            ewald.settings(),
            ChargeSums(fragment=fragment),
            convergence,
        )
        moments = positions.new_zeros(n_structures, 3)
        columns.append(moments.index_add(0, batch, found.charges.unsqueeze(1) * arms))
    return epsilon_factor * torch.stack(columns, dim=2)
