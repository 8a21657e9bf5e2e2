"""Energies with their first derivatives, and products of second ones with vectors, as numbers.

Operators need them where there is no autograd. A batch that kernels sum as a whole has both from
them; others are differentiated in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.method import FirstAndSecond, Settings
from les.sums.packing import out_of_rows, pack_charges
from les.sums.plan import Plan, evaluate, make_plan, whole
from les.sums.system import Given

#: Derivatives with respect to charges, positions and cells; ``None`` for what is not wanted.
Gradients = list[Tensor | None]


def first_derivatives(
    given: Given, settings: Settings, wanted: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    """Energies ``[n_structures]``, and the derivatives of their sum that are ``wanted``."""
    plan = make_plan(given, settings)
    whole_batch = _Whole.of(plan, wanted[2])
    if whole_batch is not None:
        energy, found = whole_batch.first()
        return energy, _shaped(found, given, wanted)
    with torch.enable_grad():
        leaves = _leaves(given, wanted)
        energy = energies(leaves, given, settings)
        gradients = _gradients(energy.sum(), leaves, wanted)
    return energy.detach(), gradients


def second_derivatives(
    given: Given, settings: Settings, directions: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Gradients:
    """How the first derivatives change along ``directions`` of charges, positions and cells."""
    plan = make_plan(given, settings)
    of_cell = wanted[2] or directions[2] is not None
    whole_batch = _Whole.of(plan, of_cell)
    if whole_batch is not None:
        return _shaped(whole_batch.second(directions), given, wanted)
    needed = [flag or along is not None for flag, along in zip(wanted, directions, strict=True)]
    with torch.enable_grad():
        leaves = _leaves(given, needed)
        total = change(leaves, given, settings, directions)
        return _gradients(total, leaves, wanted)


def energies(leaves: Sequence[Tensor], given: Given, settings: Settings) -> Tensor:
    """Energies of ``given`` with ``leaves`` as charges, positions and cells; differentiable."""
    charges, positions, cell = leaves
    found = Given(charges, positions, cell, given.batch, given.pbc)
    return evaluate(make_plan(found, settings), False)[0]


def change(
    leaves: Sequence[Tensor],
    given: Given,
    settings: Settings,
    directions: Sequence[Tensor | None],
) -> Tensor:
    """How the sum of the energies changes along ``directions``; differentiable."""
    energy = energies(leaves, given, settings).sum()
    along = [(leaf, way) for leaf, way in zip(leaves, directions, strict=True) if way is not None]
    if not energy.requires_grad:  # without atoms
        return energy
    first = torch.autograd.grad(
        energy,
        [leaf for leaf, _ in along],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    # A direction may have no memory of its own, as an expanded number.
    products = [(value * way.clone()).sum() for value, (_, way) in zip(first, along, strict=True)]
    return torch.stack(products).sum()


def _leaves(given: Given, differentiated: Sequence[bool]) -> list[Tensor]:
    return [
        leaf.detach().requires_grad_(chosen)
        for leaf, chosen in zip(given[:3], differentiated, strict=True)
    ]


def _gradients(value: Tensor, leaves: Sequence[Tensor], wanted: Sequence[bool]) -> Gradients:
    chosen = [leaf for leaf, flag in zip(leaves, wanted, strict=True) if flag]
    if not value.requires_grad:  # without atoms
        found = [torch.zeros_like(leaf) for leaf in chosen]
    else:
        found = list(torch.autograd.grad(value, chosen, allow_unused=True, materialize_grads=True))
    remaining = iter(found)
    return [next(remaining) if flag else None for flag in wanted]


def _shaped(gradients: Sequence[Tensor], given: Given, wanted: Sequence[bool]) -> Gradients:
    return [
        gradient.view(leaf.shape) if flag else None
        for gradient, leaf, flag in zip(gradients, given[:3], wanted, strict=True)
    ]


class _Whole(NamedTuple):
    """A batch that kernels sum as a whole, in rows of atoms."""

    plan: Plan
    kernels: FirstAndSecond
    #: Arguments of the kernels: charges, positions and, where there are, cells.
    arguments: tuple[Tensor, ...]
    slots: Tensor | None
    #: Whether derivatives with respect to cells are not zero.
    of_cell: bool

    @staticmethod
    def of(plan: Plan, of_cell: bool) -> _Whole | None:
        """The batch of a plan, if it is one."""
        found = whole(plan, of_cell)
        return None if found is None else _Whole(plan, *found, of_cell)

    def first(self) -> tuple[Tensor, list[Tensor]]:
        """Energies, and derivatives with respect to charges, positions and cells."""
        system = self.plan.system
        prefactor, self_coefficient = self._coefficients()
        energy, to_charges, *others = self.kernels.first(self.arguments)
        # All of these are new.
        energy.mul_(prefactor)
        to_charges = out_of_rows(to_charges, self.slots).mul_(prefactor)
        if self_coefficient != 0.0:
            squares = system.charges.square().sum(dim=1)
            energy.index_add_(0, system.owner, squares, alpha=self_coefficient)
            to_charges.add_(system.charges, alpha=2.0 * self_coefficient)
        return energy, [to_charges, *self._others(prefactor, others)]

    def second(self, directions: Sequence[Tensor | None]) -> list[Tensor]:
        """Changes of these derivatives along directions of the same three."""
        system = self.plan.system
        prefactor, self_coefficient = self._coefficients()
        along = [
            torch.zeros_like(value) if way is None else way.reshape(value.shape)
            for value, way in zip(system[:3], directions, strict=True)
        ]
        rows = (self._in_rows(along[0]).transpose(1, 2), self._in_rows(along[1]), along[2])
        to_charges, *others = self.kernels.second(self.arguments, rows[: len(self.arguments)])
        to_charges = out_of_rows(to_charges, self.slots).mul_(prefactor)
        if self_coefficient != 0.0:
            to_charges.add_(along[0], alpha=2.0 * self_coefficient)
        return [to_charges, *self._others(prefactor, others)]

    def _coefficients(self) -> tuple[float, float]:
        return self.plan.settings.coefficients(self.plan.shares[0].method.periodic)

    def _in_rows(self, values: Tensor) -> Tensor:
        """``[n_structures, width, n]`` of values ``[n_atoms, n]``, zero where no atom is."""
        n_structures, width = self.arguments[1].shape[:2]
        if self.slots is None:
            return values.view(n_structures, width, -1)
        return pack_charges(values, self.slots, n_structures, width)

    def _others(self, prefactor: float, found: Sequence[Tensor]) -> list[Tensor]:
        """Derivatives with respect to positions and cells from those of rows."""
        to_positions = out_of_rows(found[0].transpose(1, 2), self.slots).mul_(prefactor)
        to_cell = found[1] if len(found) > 1 else torch.zeros_like(self.plan.system.cell)
        return [to_positions, to_cell.mul_(prefactor) if self.of_cell else to_cell]
