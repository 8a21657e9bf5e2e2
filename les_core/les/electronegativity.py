r"""Electronegativities and hardnesses of atoms, from the two numbers that a model reads of each.

Both are in units of :data:`UNIT`, about half the hardness of a Gaussian charge on an atom. So the
charges that follow, about electronegativity over hardness, are of the size of the numbers that are
read, as they are where charges are read themselves, and learn as fast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Electronegativity [eV/e] of a first number 1, and hardness [eV/e^2] of a second number 0.
UNIT = 10.0


def electronegativity_and_hardness(numbers: Tensor, unit: float = UNIT) -> Tensor:
    r"""Electronegativities :math:`u a` and hardnesses :math:`u\ln(1 + e^b)/\ln 2`, always positive.

    Args:
        numbers: a and b of each atom ``[n_atoms, 2]``.
        unit: u, an argument because TorchScript knows no global numbers.

    Returns:
        ``[n_atoms, 2]``, in eV/e and eV/e^2.
    """
    hardness = torch.nn.functional.softplus(numbers[:, 1]) / math.log(2.0)
    return unit * torch.stack([numbers[:, 0], hardness], dim=1)
