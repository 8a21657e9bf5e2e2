"""Energies of atoms in the field of all charges, and their sums with cheap derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.sums.vectorised import takes_batched_gradients


def atom_energies(charges: Tensor, potential: Tensor) -> Tensor:
    r"""Energies of atoms :math:`q_i\phi_i/2` ``[n_atoms]`` [eV], summed over channels.

    ``charges`` [e] and their ``potential`` [eV/e] are ``[n_atoms]`` or ``[n_atoms, n_channels]``.
    """
    shares = 0.5 * charges * potential
    return shares.sum(dim=-1) if shares.dim() == 2 else shares


def summable(shares: Tensor, energy: Tensor, batch: Tensor) -> Tensor:
    """Energies of atoms for a model that adds them up.

    Forces are the derivatives of a sum in which all atoms of a structure count alike, and so those
    of ``energy``. By way of the shares, forces would take second derivatives of the sum over
    charges, and training on forces third ones, which have no kernels. Where atoms do not count
    alike, as in forces of single atoms on others, the derivatives are those of the shares.

    Args:
        shares: energies of atoms ``[n_atoms]`` [eV].
        energy: their sums ``[n_structures]`` [eV].
        batch: structure of each atom ``[n_atoms]``.

    Returns:
        The values of ``shares``.
    """
    found: Tensor = _Summable.apply(shares, energy, batch)  # type: ignore[no-untyped-call]
    return found


class _Summable(torch.autograd.Function):
    @staticmethod
    def forward(shares: Tensor, energy: Tensor, batch: Tensor) -> Tensor:
        return shares.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        _, energy, batch = inputs
        ctx.save_for_backward(energy, batch)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        energy, batch = ctx.saved_tensors
        if torch._C._are_functorch_transforms_active():  # values cannot be looked at
            return weights, None, None
        with torch.no_grad():
            one_each = torch.zeros_like(energy, dtype=weights.dtype).index_put((batch,), weights)
            alike = torch.equal(one_each[batch], weights)
        if not alike:
            return weights, None, None
        n_atoms = torch.bincount(batch, minlength=len(energy)).clamp(min=1)
        total = torch.zeros_like(energy, dtype=weights.dtype).index_add(0, batch, weights)
        return None, (total / n_atoms).to(energy.dtype), None

    @staticmethod
    def jvp(ctx: Any, shares: Tensor, energy: Tensor, batch: None) -> Tensor:
        return shares
