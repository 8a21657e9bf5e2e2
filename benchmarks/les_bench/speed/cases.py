"""Batches of random charges, and what is evaluated for them where sums are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from les import Ewald

#: Number density of atoms in water [1/A^3].
DENSITY = 0.1

Energy = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A batch of equal structures with random positions and charges."""

    title: str
    n_structures: int
    n_atoms: int
    periodic: bool
    #: Accuracy of forces that ``les.Ewald`` is asked for; without it, the plain sum's ``dl``.
    accuracy: float | None = None

    def ewald(self) -> Ewald:
        """The sum to be measured."""
        return Ewald(cutoff="sharp", accuracy=self.accuracy)

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Charges, positions, cells and batch index."""
        generator = torch.Generator().manual_seed(0)
        total = self.n_structures * self.n_atoms
        edge = (self.n_atoms / DENSITY) ** (1.0 / 3.0)
        positions = edge * torch.rand(total, 3, generator=generator, dtype=torch.float64)
        charges = torch.randn(total, generator=generator, dtype=torch.float64)
        cell = edge * torch.eye(3, dtype=torch.float64) * float(self.periodic)
        batch = torch.arange(self.n_structures).repeat_interleave(self.n_atoms)
        return (
            charges.to(dtype),
            positions.to(dtype),
            cell.to(dtype).repeat(self.n_structures, 1, 1),
            batch,
        )


def energy_and_forces(energy: Energy, inputs: tuple[Tensor, ...], training: bool) -> Tensor:
    """One evaluation; with ``training`` also the gradient of a loss on the forces.

    Returns the forces, or the gradient of the loss with respect to the charges.
    """
    charges, positions, cell, batch = inputs
    charges = charges.detach().requires_grad_()
    positions = positions.detach().requires_grad_()
    total = energy(charges, positions, cell, batch).sum()
    forces, potential = torch.autograd.grad(total, (positions, charges), create_graph=training)
    if not training:
        return -forces
    loss = (forces**2).sum() + (potential**2).sum()
    return torch.autograd.grad(loss, (charges, positions))[0]


def energies_of(ewald: Ewald) -> Energy:
    """The sum without its potential."""

    def energy(*arguments: Tensor) -> Tensor:
        found: Tensor = ewald(*arguments)[0]
        return found

    return energy
