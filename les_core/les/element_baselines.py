"""What is added to charges and polarisabilities of atoms for their elements."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from les.moment_readout import ALPHA_UNIT

#: Usual oxidation states, by atomic number, as published LES has them. Charges that are read off
#: features are differences from these, times a factor.
# fmt: off
OXIDATION_STATES = (
    0,
    1, 0,
    1, 2, 3, 4, -3, -2, -1, 0,
    1, 2, 3, 4, 5, -2, -1, 0,
    1, 2, 3, 4, 5, 3, 2, 2, 2, 2, 1, 2, 3, 4, 5, -2, -1, 0,
    1, 2, 3, 4, 5, 6, 7, 3, 3, 2, 1, 2, 3, 2, 3, -2, -1, 0,
    1, 2, *(3,) * 6, 2, *(3,) * 6, 2, 3, 4, 5, 6, 7, 4, 3, 2, 1, 2, 1, 2, 3, 2, -1, 0,
    1, 2, 3, 4, 5, 6, 5, 4, *(3,) * 7, 2, 3, 4, 5, 6, 7, 4, 3, 2, 1, 2, 3, 2, 3, 2, -1, 0,
)
# fmt: on


class OxidationStates(nn.Module):
    """Charges of elements that are not learned: usual oxidation states times a factor.

    Args:
        factor: the factor.
    """

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        states = factor * torch.tensor(OXIDATION_STATES, dtype=torch.float64)
        self.states: Tensor
        self.register_buffer("states", states, persistent=False)

    def forward(self, atomic_numbers: Tensor) -> Tensor:
        """Charges ``[n_atoms]`` [e] of ``atomic_numbers`` ``[n_atoms]``."""
        return self.states[atomic_numbers]


class ElementPolarisabilities(nn.Module):
    """A learned polarisability for each element, positive, and 0.3 A^3 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(len(OXIDATION_STATES)))

    def add(self, alphas: Tensor, atomic_numbers: Tensor) -> Tensor:
        """Polarisabilities ``[n_atoms]`` or ``[n_atoms, 3, 3]``, with those of the elements."""
        own = (ALPHA_UNIT * (1.0 + self.numbers[atomic_numbers]).square()).to(alphas.dtype)
        if alphas.dim() == 1:
            return alphas + own
        return alphas + torch.diag_embed(own.unsqueeze(1).expand(-1, 3))
