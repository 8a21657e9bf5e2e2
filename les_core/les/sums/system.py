"""A batch of structures, as callers give it and as methods take it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Given(NamedTuple):
    """Arguments of ``les.Ewald``, which describes them."""

    charges: Tensor
    positions: Tensor
    cell: Tensor
    batch: Tensor | None
    pbc: Tensor | None


class System(NamedTuple):
    """Gaussian charges, structure after structure."""

    #: ``[n_atoms, n_channels]`` [e].
    charges: Tensor
    #: ``[n_atoms, 3]`` [A].
    positions: Tensor
    #: ``[n_structures, 3, 3]`` [A], rows are lattice vectors.
    cell: Tensor
    #: Structure of each atom ``[n_atoms]``, ascending.
    owner: Tensor
    #: Number of atoms of each structure ``[n_structures]``.
    counts: Tensor
    #: Where the kernels of slabs end ``[n_structures]`` [A], 0 for other structures; ``None`` if
    #: there are no slabs.
    half_height: Tensor | None
    #: Sources of each atom and channel; ``charges`` are ``sources.Moments.as_sources`` if there are
    #: more than one, ``[n_atoms, n_sources * n_channels]``.
    n_sources: int = 1


def select(system: System, chosen: Tensor) -> tuple[System, Tensor, Tensor]:
    """The structures where ``chosen [n_structures]`` is true, and which atoms and structures."""
    structures = torch.nonzero(chosen).flatten()
    atoms = torch.nonzero(chosen[system.owner]).flatten()
    half_height = system.half_height
    part = System(
        system.charges.index_select(0, atoms),
        system.positions.index_select(0, atoms),
        system.cell.index_select(0, structures),
        (torch.cumsum(chosen.to(torch.long), dim=0) - 1)[system.owner[atoms]],
        system.counts.index_select(0, structures),
        None if half_height is None else half_height.index_select(0, structures),
        system.n_sources,
    )
    return part, structures, atoms
