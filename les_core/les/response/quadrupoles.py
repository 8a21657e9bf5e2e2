"""Quadrupole moments of latent charges."""

from __future__ import annotations

from torch import Tensor

from les.response.dipoles import checked_arguments, exact_charges, structure_mean
from les.sums.reciprocal.lattice import exactly


def quadrupole_moments(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    remove_mean: bool = True,
    epsilon_factor: float = 1.0,
) -> Tensor:
    r"""Second moments :math:`\sqrt{\epsilon_\infty} \sum_j q_j (r_j - c)_\alpha (r_j - c)_\beta`.

    The centre c is the mean of all positions, the geometric centre, so the result does not depend
    on the position of a molecule. If a molecule has a dipole, its quadrupole depends on the choice
    of the centre. The results are the primitive moments, with their trace, as in the SPICE data
    set. The traceless moment of A. D. Buckingham (Q. Rev. Chem. Soc. 13, 183 (1959)) is
    :math:`\Theta = \tfrac{3}{2} (Q - \tfrac{1}{3} \mathrm{tr}\,Q)`: only this part acts on other
    molecules, and only this part of a point-charge model is comparable with electronic-structure
    theory, where the trace is mostly the extent of the electron cloud.

    In a periodic cell they would jump when an atom is wrapped, by an amount that depends on all
    positions. They are meaningful for open structures only.

    Args:
        charges: ``[n_atoms]`` or ``[n_atoms, 1]`` [e].
        positions: ``[n_atoms, 3]`` [A].
        batch: structure of each atom ``[n_atoms]``.
        n_structures: number of structures.
        remove_mean: subtract the mean charge of each structure.
        epsilon_factor: high-frequency dielectric constant.

    Returns:
        ``[n_structures, 3, 3]`` [e A^2].

    Raises:
        ValueError, TypeError: as :func:`les.dipole_moments`.
    """
    q, owner = checked_arguments(charges, positions, batch, n_structures, epsilon_factor)
    return quadrupole_evaluation(q, positions, owner, n_structures, remove_mean, epsilon_factor)


def quadrupole_evaluation(
    charges: Tensor,
    positions: Tensor,
    batch: Tensor,
    n_structures: int,
    remove_mean: bool,
    epsilon_factor: float,
) -> Tensor:
    """Moments of checked arguments, without a look at their values; ``charges`` ``[n_atoms]``."""
    q = exact_charges(charges, batch, n_structures, remove_mean, epsilon_factor)
    exact_positions = exactly(positions)
    arms = exact_positions - structure_mean(exact_positions, batch, n_structures)
    products = arms.unsqueeze(2) * arms.unsqueeze(1)
    moments = positions.new_zeros([n_structures, 3, 3], dtype=q.dtype)
    moments = moments.index_add(0, batch, q.view(-1, 1, 1) * products)
    return moments.to(positions.dtype)
