r"""The polarisability of molecules whose charges are equilibrated.

In a homogeneous field :math:`\mathcal{E}` the energy of equilibrated charges
(``les.equilibration``) is

.. math:: W(q) - \sqrt{\epsilon_\infty}\,\mathcal{E}\cdot\sum_i q_i r_i,

so that the field takes :math:`\sqrt{\epsilon_\infty}\,\mathcal{E}\cdot r_i` off the
electronegativity of each atom. W is quadratic in the charges: they are linear in the field, and

.. math:: \alpha_{ab} = \frac{\partial\mu_a}{\partial\mathcal{E}_b}
    = \sqrt{\epsilon_\infty}\sum_i r_{ia}\frac{\partial q_i}{\partial\mathcal{E}_b}

is exact for any field. Its columns are the charges of three more equilibrations, without
electronegativities but those of the field, and with a total charge of zero. Nuclei are at rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.equilibration import DEFAULT_ITERATIONS, DEFAULT_TOLERANCE, equilibrate
from les.ewald import Ewald
from les.ranges import check_number
from les.response.dipoles import structure_mean
from les.sums.checks import check_tensors


def polarisability(
    ewald: Ewald,
    hardness: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    epsilon_factor: float = 1.0,
    tolerance: float = DEFAULT_TOLERANCE,
    iterations: int = DEFAULT_ITERATIONS,
    fragment: Tensor | None = None,
) -> Tensor:
    """Polarisabilities of molecules with equilibrated charges, at fixed nuclei.

    They are differentiable with respect to hardnesses and positions.

    Args:
        ewald: the sum.
        hardness: ``[n_atoms]`` [eV/e^2], positive.
        positions: ``[n_atoms, 3]`` [A], of open structures.
        batch: structure of each atom ``[n_atoms]``, ascending.
        n_structures: number of structures.
        epsilon_factor: high-frequency dielectric constant.
        tolerance, iterations: of the equilibration.
        fragment: label of the fragment of each atom ``[n_atoms]``, between which no charge flows.

    Returns:
        ``[n_structures, 3, 3]`` [e^2 A^2 / eV], symmetric, and positive for any direction along
        which a molecule extends.

    Raises:
        ValueError, TypeError: as ``les.equilibration.equilibrate``, and for an ``epsilon_factor``
            that is not positive.
        RuntimeError: where charges do not converge.
    """
    check_number("epsilon_factor", epsilon_factor)
    check_tensors(positions=positions, hardness=hardness)
    pbc = torch.zeros(n_structures, 3, dtype=torch.bool, device=positions.device)
    cell = positions.new_zeros(n_structures, 3, 3)
    arms = positions - structure_mean(positions, batch, n_structures)
    columns = []
    for axis in range(3):
        found = equilibrate(
            -arms[:, axis],
            hardness,
            positions,
            cell,
            batch,
            pbc,
            None,
            ewald.settings(),
            tolerance,
            iterations,
            fragment,
        )
        moments = positions.new_zeros(n_structures, 3)
        columns.append(moments.index_add(0, batch, found.charges.unsqueeze(1) * arms))
    return epsilon_factor * torch.stack(columns, dim=2)
