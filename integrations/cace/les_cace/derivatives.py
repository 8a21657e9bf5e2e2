"""Forces and stress of structures: the energy's derivatives by positions and by strain."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from les.structures import Structures
from les.sums.checks import has_volume


class Deformable(NamedTuple):
    """Structures whose energy can be differentiated.

    Attributes:
        given: the structures, whose positions require gradients where these are needed.
        deformed: the same, deformed by ``strain``; what an energy is computed of.
        strain: ``[n_structures, 3, 3]``, zero; ``None`` where no stress is computed.
    """

    given: Structures
    deformed: Structures
    strain: Tensor | None

    @classmethod
    def of(cls, structures: Structures, *, gradients: bool, stress: bool) -> Deformable:
        """For ``structures``, with ``gradients`` by positions, and by strain for a ``stress``."""
        positions, cell, batch, _ = structures
        if not positions.requires_grad and (gradients or stress):
            positions = positions.detach().requires_grad_()
        given = structures._replace(positions=positions)
        if not stress:
            return cls(given, given, None)
        strain = torch.zeros_like(cell).requires_grad_()
        deformation = 0.5 * (strain + strain.transpose(1, 2))
        moved = positions + (positions.unsqueeze(1) @ deformation[batch]).squeeze(1)
        strained = given._replace(positions=moved, cell=cell + cell @ deformation)
        return cls(given, strained, strain)

    def derivatives(self, energy: Tensor, *, forces: bool, create_graph: bool) -> dict[str, Tensor]:
        """``forces`` ``[n_atoms, 3]`` [eV/A] and ``stress`` ``[n_structures, 3, 3]`` [eV/A^3].

        Args:
            energy: ``[n_structures]`` [eV], of the deformed structures.
            forces: whether forces are computed; the stress is where there is a strain.
            create_graph: keep the results differentiable.
        """
        leaves = [self.given.positions] * forces
        leaves += [] if self.strain is None else [self.strain]
        if not leaves:
            return {}
        found: dict[str, Tensor] = {}
        gradients = list(torch.autograd.grad(energy.sum(), leaves, create_graph=create_graph))
        if forces:
            found["forces"] = -gradients.pop(0)
        if self.strain is not None:
            # Of a slab too, where its cell has a volume: that is the convention of ASE.
            _, cell, _, pbc = self.given
            assert pbc is not None
            bounded = pbc.any(dim=1) & has_volume(cell)
            volume = torch.where(bounded, torch.linalg.det(cell).abs(), math.inf)
            found["stress"] = gradients.pop(0) / volume[:, None, None]
        return found
