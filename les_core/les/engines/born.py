r"""Born effective charges of atoms that are divided among ranks.

.. math:: Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\Big[q_i\,\delta_{\alpha\beta}
    + \sum_j (r_j - r_i)_\alpha\,\partial q_j/\partial r_{i\beta}\Big],

the sum running over all atoms j of an infinite crystal whose charges feel atom i. A rank has the
charges of its own atoms j, and sees every atom i that they feel at its place, each image by itself:
with the derivatives of :math:`\sum_j q_j` and of :math:`\sum_j r_j q_j`, the positions in front
kept constant, it knows its part of the sum for each atom seen. What it knows of ghosts is added up
by atom. It is what ``les.born_effective_charges`` finds along the edges of the graph of a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.engines.cluster import Cluster
from les.engines.potential import DividedPotential, Whole
from les.response.moments import open_part


def born_shares(potential: DividedPotential, cluster: Cluster) -> tuple[Tensor, Tensor]:
    """What a rank's own charges add to the Born effective charges of the atoms that it sees.

    Args:
        potential: the model; no other rank is asked.
        cluster: the own atoms, and what they feel, images of an atom as nodes of their own.

    Returns:
        The sum over own atoms j, without a factor, ``[n_nodes, 3, 3]`` [e], first the component of
        the polarisation; and derivatives of the sum of the own charges ``[n_nodes, 3]`` [e/A].
    """
    found = potential.of_rank(cluster)
    positions = found.leaves[0].detach().double()
    n_nodes = len(positions)
    if cluster.n_own == 0:
        return positions.new_zeros([n_nodes, 3, 3]), positions.new_zeros([n_nodes, 3])

    def derivatives(weights: Tensor) -> Tensor:
        weighted = (found.charges * weights.to(found.charges.dtype)).sum()
        gradient, _ = torch.autograd.grad(weighted, found.leaves, retain_graph=True)
        return gradient.double()

    places = positions[: cluster.n_own]
    plain = derivatives(torch.ones_like(places[:, 0]))
    moments = torch.stack([derivatives(places[:, axis]) for axis in range(3)], dim=1)
    return moments - positions.unsqueeze(2) * plain.unsqueeze(1), plain


def born_charges(
    potential: DividedPotential,
    shares: Tensor,
    plain: Tensor,
    positions: Tensor,
    whole: Whole,
    cell: Tensor,
    pbc: Tensor,
) -> Tensor:
    """Born effective charges of the own atoms ``[n_own, 3, 3]`` [e]; all ranks must call it.

    Args:
        potential: the model.
        shares: those of :func:`born_shares`, added up by atom ``[n_own, 3, 3]``.
        plain: the derivatives of the sum of all charges, likewise ``[n_own, 3]``.
        positions: of the own atoms ``[n_own, 3]`` [A].
        whole: results for the structure.
        cell: ``[3, 3]`` [A].
        pbc: ``[3]``, boolean.
    """
    config, charges = potential.model.config, whole.charges
    arms = positions
    if config.remove_mean:
        # Along open axes a charge that comes about is taken off all atoms again.
        counted = torch.cat([positions.sum(dim=0), positions.new_tensor([len(positions)])])
        counted = potential.reduction.sum(counted)
        arms = positions - counted[:3] / counted[3].clamp(min=1.0)
        if config.moments_without_mean:
            charges = charges - whole.mean_charge
    batch = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
    arms = open_part(arms, cell.unsqueeze(0), batch, pbc.unsqueeze(0))
    flow = shares + arms.unsqueeze(2) * plain.unsqueeze(1)
    unit = torch.eye(3, dtype=positions.dtype, device=positions.device)
    return charges.view(-1, 1, 1) * unit + config.epsilon_factor**0.5 * flow
