"""The overall sign of the latent charges.

The energy is even in the charges, so training leaves their common sign open; dipoles and
Born effective charges follow it. The sign is fixed by chemistry: the most electronegative
element of a structure carries negative charge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from les.electronegativity import PAULING
from les.sums.checks import check_finite

logger = logging.getLogger("les")


def charge_sign(charges: Tensor, atomic_numbers: Tensor) -> float:
    """The sign (+1 or -1) that makes the most electronegative element negative.

    Args:
        charges: latent charges ``[n_atoms]`` or ``[n_atoms, n_channels]`` of one structure;
            the sum over channels counts.
        atomic_numbers: ``[n_atoms]``.

    Returns:
        -1 if the mean charge of that element is positive, relative to the mean over all
        atoms; +1 otherwise, and for a structure of a single element.
    """
    if atomic_numbers.shape != charges.shape[:1]:
        raise ValueError(
            f"`atomic_numbers` must have shape [n_atoms] = [{charges.shape[0]}], "
            f"got {list(atomic_numbers.shape)}"
        )
    per_atom = charges.detach()
    if per_atom.dim() == 2:
        per_atom = per_atom.sum(dim=1)
    check_finite("charges", per_atom)
    table = torch.tensor(PAULING, dtype=torch.float32, device=charges.device)
    known = atomic_numbers.clamp(max=len(PAULING) - 1).to(torch.long)
    electronegativity = table[known]
    chosen = electronegativity == electronegativity.max()
    excess = per_atom[chosen].mean() - per_atom.mean()
    return -1.0 if float(excess) > 0.0 else 1.0


def fix_charge_sign(charges: Tensor, atomic_numbers: Tensor) -> Tensor:
    """``charges`` of one structure with the most electronegative element negative.

    Arguments as for :func:`charge_sign`. Multiply dipoles and Born effective charges of
    the same structure by :func:`charge_sign` as well.
    """
    return charges * charge_sign(charges, atomic_numbers)


class ChargeSign:
    """The sign of the charges along a trajectory.

    The first structure with several elements determines it. It is then kept, because a new
    decision for each structure might change the sign along a trajectory.

    Args:
        sign: +1 or -1 sets the sign by hand.

    Raises:
        ValueError: for another ``sign``.
    """

    def __init__(self, sign: int | None = None) -> None:
        if sign not in (None, 1, -1):
            raise ValueError(f"`sign` must be 1, -1 or None, got {sign!r}")
        self.sign = sign

    def __call__(self, charges: Tensor, atomic_numbers: Tensor) -> int:
        """The sign; ``charges`` and ``atomic_numbers`` as for :func:`charge_sign`.

        A structure of a single element decides nothing: +1 until one comes that does.
        """
        if self.sign is None and bool((atomic_numbers != atomic_numbers[0]).any()):
            self.sign = int(charge_sign(charges, atomic_numbers))
        return self.sign or 1

    def state(self) -> dict[str, Any]:
        """The sign that was chosen, as plain values for :meth:`restore`."""
        return {"sign": self.sign}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with the sign that another instance has chosen.

        Raises:
            ValueError: for another sign than +1, -1 and ``None``.
        """
        self.sign = ChargeSign(state["sign"]).sign


def orient_charges(structures: Iterable[tuple[Tensor, Tensor]], negate: Callable[[], None]) -> bool:
    """Give the charges of a model the sign that follows from chemistry, as :func:`charge_sign`.

    To be done once, before a model is trained on dipoles or Born effective charges: from then on
    the sign is no longer open. It is not open either where oxidation states are added to charges
    that are read: to negate these alone would change the energy.

    Args:
        structures: charges and atomic numbers, as for :func:`charge_sign`, of structures until one
            has several elements, which decides.
        negate: changes the sign of the model's charges.

    Returns:
        Whether the sign has been changed.
    """
    sign = ChargeSign()
    for charges, numbers in structures:
        sign(charges, numbers)
        if sign.sign is not None:
            break
    if sign.sign != -1:
        return False
    negate()
    logger.info("the sign of all charges was changed: electronegative elements are negative now")
    return True
