"""Energies with their first derivatives, and products of second ones with vectors, as numbers.

Operators need them where there is no autograd. A batch that kernels sum as a whole has both from
them; others are differentiated in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.function import energy_and_gradients
from les.sums.method import FirstAndSecond, Settings
from les.sums.plan import evaluate, kernels_of_batch, make_plan
from les.sums.recent import Recent
from les.sums.system import Given

#: Derivatives with respect to charges, positions and cells; ``None`` for what is not wanted.
Gradients = list[Tensor | None]


class _Kernels(NamedTuple):
    """Kernels that sum a batch as a whole."""

    kernels: FirstAndSecond
    periodic: bool

    def arguments(self, given: Given) -> tuple[Tensor, ...]:
        """Those of the kernels."""
        charges = given.charges if given.charges.dim() == 2 else given.charges.unsqueeze(-1)
        return (charges, given.positions, given.cell)[: 3 if self.periodic else 2]


#: Kernels of the latest :func:`first_derivatives`.
_RECENT = Recent()


def first_derivatives(
    given: Given, settings: Settings, wanted: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    """Energies ``[n_structures]``, and the derivatives of their sum that are ``wanted``."""
    found = _kernels(given, settings, wanted[2])
    _RECENT.keep(given, (settings, wanted[2]), found)
    if found is not None:
        energy, *own = found.kernels.first(found.arguments(given))
        return energy, _shaped(own, given, wanted)
    with torch.enable_grad():
        leaves = _leaves(given, wanted)
        energy = energies(leaves, given, settings)
        gradients = _gradients(energy.sum(), leaves, wanted)
    return energy.detach(), gradients


def differentiable_derivatives(
    given: Given, settings: Settings, wanted: Sequence[bool]
) -> tuple[Tensor, Gradients] | None:
    """As :func:`first_derivatives`, differentiable, where kernels sum the batch; otherwise None."""
    found = _kernels(given, settings, wanted[2])
    if found is None or (wanted[2] and not found.periodic):
        return None
    energy, *gradients = energy_and_gradients(found.kernels, *found.arguments(given))
    return energy, _shaped(gradients, given, wanted)


def second_derivatives(
    given: Given, settings: Settings, directions: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Gradients:
    """How the first derivatives change along ``directions`` of charges, positions and cells."""
    of_cell = wanted[2] or directions[2] is not None
    found = _RECENT.find(given, (settings, of_cell)) or _kernels(given, settings, of_cell)
    if found is not None:
        arguments = found.arguments(given)
        along = tuple(
            torch.zeros_like(value) if direction is None else direction.reshape(value.shape)
            for value, direction in zip(arguments, directions, strict=False)
        )
        return _shaped(found.kernels.second(arguments, along), given, wanted)
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
    along = [pair for pair in zip(leaves, directions, strict=True) if pair[1] is not None]
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
    products = [
        (value * direction.clone()).sum()
        for value, (_, direction) in zip(first, along, strict=True)
        if direction is not None
    ]
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


def _kernels(given: Given, settings: Settings, of_cell: bool) -> _Kernels | None:
    plan = make_plan(given, settings)
    kernels = kernels_of_batch(plan, of_cell)
    return None if kernels is None else _Kernels(kernels, plan.shares[0].method.periodic)


def _shaped(found: Sequence[Tensor], given: Given, wanted: Sequence[bool]) -> Gradients:
    """What is wanted of the derivatives; open structures have none with respect to cells."""
    gradients = [*found, torch.zeros_like(given.cell)] if len(found) < 3 and wanted[2] else found
    charges = gradients[0] if given.charges.dim() == 2 else gradients[0].squeeze(-1)
    shaped = (charges, *gradients[1:])
    return [shaped[i] if wanted[i] else None for i in range(3)]
