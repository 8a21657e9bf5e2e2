"""The long-range part of atoms in any order: the core wants structures one after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.atom_energies import summable
from les.latent_moments import long_range_of_moments
from les.long_range import LongRange, long_range
from les.moment_readout import ReadMoments
from les.structures import ChargeSums, Structures


def long_range_in_any_order(
    les: Any,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    moments: ReadMoments | None = None,
    external: Tensor | None = None,
) -> LongRange:
    """As ``les.long_range.long_range``, where no graph is captured.

    Upstream allows any order of the atoms of a batch.

    Args:
        les: the module, which says how.
        charges: as they are read ``[n_atoms]`` [e].
        structures: where the atoms are, with ``batch`` in any order.
        sums: what charges sum to.
        moments: what else is read of the atoms.
        external: field that the structures are in ``[n_structures, 3]`` [V/A], if they are.

    Returns:
        What follows, with the energies of atoms in a precision in which they sum to that of their
        structure (``les.atom_energies.summable``).
    """
    batch = structures.batch
    if bool((batch[1:] < batch[:-1]).any()):
        order = torch.argsort(batch, stable=True)
        if moments is not None:
            moments = moments.in_order(order)
        arguments = (structures.in_order(order), sums.in_order(order), moments, external)
        found = _evaluated(les, charges[order], *arguments).in_order(torch.argsort(order))
    else:
        found = _evaluated(les, charges, structures, sums, moments, external)
    return found._replace(atom_energies=summable(found.atom_energies, found.energy, batch))


def _evaluated(
    les: Any,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    moments: ReadMoments | None,
    external: Tensor | None,
) -> LongRange:
    core, dipole = (les.ewald, les.config, charges), les.compute_dipole
    if moments is None:
        return long_range(*core, structures, sums, external, compute_dipole=dipole)
    return long_range_of_moments(*core, moments, structures, sums, external, compute_dipole=dipole)
