r"""Electronegativities: of elements, by Pauling, and of atoms, from numbers that a model reads.

A model reads two numbers of each atom, which become an electronegativity and a hardness. Both are
in units of :data:`UNIT`, about half the hardness of a Gaussian charge on an atom. So the charges
that follow, about electronegativity over hardness, are of the size of the numbers that are read, as
they are where charges are read themselves, and learn as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Pauling electronegativities by atomic number (CRC Handbook of Chemistry and Physics);
#: 0 where there is no accepted value.
# fmt: off
PAULING = (
    0.00,
    2.20, 0.00,
    0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 0.00,
    0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 0.00,
    0.82, 1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65,
    1.81, 2.01, 2.18, 2.55, 2.96, 0.00,
    0.82, 0.95, 1.22, 1.33, 1.60, 2.16, 2.10, 2.20, 2.28, 2.20, 1.93, 1.69,
    1.78, 1.96, 2.05, 2.10, 2.66, 2.60,
    0.79, 0.89, 1.10, 1.12, 1.13, 1.14, 0.00, 1.17, 0.00, 1.20, 0.00, 1.22, 1.23, 1.24, 1.25,
    0.00, 1.00, 1.30, 1.50, 1.70, 1.90, 2.20, 2.20, 2.20, 2.40, 1.90,
    1.80, 1.80, 1.90, 2.00, 2.20, 0.00,
    0.70, 0.90, 1.10, 1.30, 1.50, 1.70, 1.30, 1.30,
    0.00,  # all that are heavier
)
# fmt: on

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


#: Charge [e] that training starts from, for each unit of Pauling's scale below hydrogen.
CHARGE_PER_UNIT = 0.5


def has_electronegativity(atomic_number: int) -> bool:
    """Whether an element has an accepted value on Pauling's scale."""
    return atomic_number < len(PAULING) and PAULING[atomic_number] > 0.0


def charges_of_electronegativity(atomic_numbers: Sequence[int]) -> Tensor:
    """Charges of elements in the order of their electronegativities, in the size of learned ones.

    Hydrogen, which is in the middle of the scale, has none.

    Args:
        atomic_numbers: of elements; 0 and elements without an accepted value have no charge.

    Returns:
        ``[n_elements]`` in e.
    """
    values = torch.tensor(
        [PAULING[number if has_electronegativity(number) else 1] for number in atomic_numbers]
    )
    return CHARGE_PER_UNIT * (PAULING[1] - values)
