r"""The acoustic sum rule of Born effective charges.

.. math:: \sum_i Z^*_{i\alpha\beta} = 0

Moving all atoms of a neutral structure together changes no polarisation, and no field then makes
its centre of mass move (R. M. Pick, M. H. Cohen, R. M. Martin, Phys. Rev. B 1, 910 (1970)). For
molecules, Born effective charges of charges less their mean obey it to rounding. In a crystal
their sum is minus the derivative of the total charge of a cell by its strain, which is zero for
models whose charges sum to a constant by construction and small for others
(``les.response.moments``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.response.dipoles import structure_mean
from les.sums.checks import as_indices, check_batch, check_finite, check_tensors

#: What to do about the acoustic sum, by name.
ACOUSTIC_SUMS = ("kept", "spread")


def acoustic_sum(bec: Tensor, batch: Tensor | None = None, n_structures: int = 1) -> Tensor:
    """Sums of Born effective charges over the atoms of each structure.

    Args:
        bec: Born effective charges ``[n_atoms, 3, 3]`` [e].
        batch: structure of each atom ``[n_atoms]``; may be left out for one structure.
        n_structures: number of structures.

    Returns:
        ``[n_structures, 3, 3]`` [e].

    Raises:
        ValueError, TypeError: for other shapes or types, values that are not finite, and a
            ``batch`` that does not belong to them.
    """
    owner = _owner(bec, batch, n_structures)
    return bec.new_zeros([n_structures, 3, 3]).index_add(0, owner, bec)


def spread_acoustic_sum(bec: Tensor, batch: Tensor | None = None, n_structures: int = 1) -> Tensor:
    """Born effective charges less their mean over the atoms of each structure.

    Their acoustic sum is then zero, as phonon codes and molecular dynamics in a field require.
    All atoms have the same share of the correction, as in X. Gonze, C. Lee, Phys. Rev. B 55, 10355
    (1997).
    The result is differentiable.

    Args:
        bec: Born effective charges ``[n_atoms, 3, 3]`` [e].
        batch: structure of each atom ``[n_atoms]``; may be left out for one structure.
        n_structures: number of structures.

    Returns:
        ``[n_atoms, 3, 3]`` [e].

    Raises:
        ValueError, TypeError: as :func:`acoustic_sum`.
    """
    return bec - structure_mean(bec, _owner(bec, batch, n_structures), n_structures)


def _owner(bec: Tensor, batch: Tensor | None, n_structures: int) -> Tensor:
    """``batch`` after a check of all arguments."""
    check_born_effective_charges(bec)
    check_tensors(True, batch=batch)
    owner = as_indices(batch)
    check_batch(owner, bec.shape[0], n_structures, bec.device)
    return bec.new_zeros(bec.shape[0], dtype=torch.long) if owner is None else owner


def check_born_effective_charges(bec: Tensor) -> None:
    """``bec`` must be a finite tensor ``[n_atoms, 3, 3]`` of floating-point numbers."""
    check_tensors(bec=bec)
    if bec.dim() != 3 or bec.shape[1:] != (3, 3) or not bec.is_floating_point():
        raise ValueError(
            f"`bec` must have shape [n_atoms, 3, 3] and floating-point numbers, got {bec.dtype} of "
            f"shape {list(bec.shape)}"
        )
    check_finite("bec", bec)
