r"""The electric current of moving atoms, from their Born effective charges.

.. math:: J_\alpha = \frac{d P_\alpha}{dt} = \sum_i Z^*_{i\alpha\beta}\, v_{i\beta}

Unlike the polarisation of a periodic cell, it has one value, so infrared spectra of condensed
matter come from its autocorrelation.
"""

from __future__ import annotations

from torch import Tensor

from les.response.sum_rules import acoustic_sum, check_born_effective_charges
from les.sums.checks import check_finite, check_tensors


def current(
    bec: Tensor, velocities: Tensor, batch: Tensor | None = None, n_structures: int = 1
) -> Tensor:
    """The current of each structure, which is the time derivative of its dipole.

    ASE's unit of time is A sqrt(u/eV) = 10.18 fs: multiply its velocities by ``ase.units.fs``
    (0.0982) to have A/fs.

    Args:
        bec: Born effective charges ``[n_atoms, 3, 3]`` [e], the component of the polarisation
            first. Their acoustic sum times the velocity of the centre is part of the result; see
            :func:`les.spread_acoustic_sum`.
        velocities: ``[n_atoms, 3]`` [A/fs].
        batch: structure of each atom ``[n_atoms]``; may be left out for one structure.
        n_structures: number of structures.

    Returns:
        ``[n_structures, 3]`` [e A/fs]. With other units of velocity, the unit is e times that unit.

    Raises:
        ValueError, TypeError: for other shapes or types, values that are not finite, and a
            ``batch`` that does not belong to them.
    """
    check_born_effective_charges(bec)
    check_tensors(velocities=velocities)
    if velocities.dim() != 2 or velocities.shape != (len(bec), 3):
        raise ValueError(
            f"`velocities` must have shape [n_atoms, 3] = [{bec.shape[0]}, 3], got "
            f"{list(velocities.shape)}"
        )
    check_finite("velocities", velocities)
    return acoustic_sum(bec * velocities.unsqueeze(1), batch, n_structures).sum(dim=-1)
