"""Born effective charges as a module, as published LES has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from les.response.arguments import BornSettings
from les.response.atomic_dipoles import born_effective_charges_of_dipoles
from les.response.phase import phase_born_effective_charges


class BEC(nn.Module):
    """The published evaluation of Born effective charges, with published arguments.

    Pickled models of published LES hold one, whose settings ``les.les.Les`` takes over.

    Args:
        remove_mean: subtract the mean charge of a structure first.
        epsilon_factor: high-frequency dielectric constant.
    """

    def __init__(self, remove_mean: bool = True, epsilon_factor: float = 1.0) -> None:
        super().__init__()
        self.remove_mean = remove_mean
        self.epsilon_factor = epsilon_factor

    def forward(
        self,
        q: Tensor,
        r: Tensor,
        cell: Tensor | None = None,
        u: Tensor | None = None,
        batch: Tensor | None = None,
        output_index: int | None = None,
    ) -> Tensor:
        """Born effective charges that can be trained on.

        Args:
            q: charges ``[n_atoms]`` or ``[n_atoms, 1]`` [e].
            r: positions ``[n_atoms, 3]`` [A], must require gradients.
            cell: ``[n_structures, 3, 3]`` [A]; without it structures are open.
            u: dipoles of atoms ``[n_atoms, 3]`` [e A].
            batch: structure of each atom ``[n_atoms]``.
            output_index: keep only this component of the polarisation.

        Returns:
            ``[n_atoms, 3, 3]`` [e], or ``[n_atoms, 3]`` with ``output_index``. With ``u``
            ``[n_atoms, 2, 3, 3]`` or ``[n_atoms, 2, 3]``: the part of charges, and that of dipoles.
        """
        settings = BornSettings(self.remove_mean, self.epsilon_factor, torch.is_grad_enabled())
        bec = phase_born_effective_charges(q, r, cell, batch, None, settings)
        if u is not None:
            of_dipoles = born_effective_charges_of_dipoles(
                u, r, self.epsilon_factor, torch.is_grad_enabled()
            )
            bec = torch.stack([bec, of_dipoles], dim=1)
        return bec if output_index is None else bec.select(-2, output_index)
