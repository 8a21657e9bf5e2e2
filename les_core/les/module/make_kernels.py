r"""Interactions of all pairs of an open structure, as published LES returns them.

With :math:`g_n=(\frac1r\frac d{dr})^n\,\mathrm{erf}(r/\sqrt2\sigma)/r` and the vector **d**
from atom i to atom j the first four derivatives are

.. math::
    g_1d_a,\quad g_2d_ad_b+g_1\delta_{ab},\quad g_3d_ad_bd_c+g_2(\delta_{ab}d_c+\dots),\quad
    g_4d_ad_bd_cd_e+g_3(\delta_{ab}d_cd_e+\dots)+g_2(\delta_{ab}\delta_{ce}+\dots).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.sums.boys import boys

#: Ways to give three or four axes to a unit matrix, or to two, and the rest to vectors.
ONE_OF_THREE = ("ab,ijc", "ac,ijb", "bc,ija")
ONE_OF_FOUR = ("ab,ijc,ijd", "ac,ijb,ijd", "ad,ijb,ijc", "bc,ija,ijd", "bd,ija,ijc", "cd,ija,ijb")
TWO_OF_FOUR = ("ab,cd", "ac,bd", "ad,bc")


def make_kernels(
    r: Tensor,
    sigma: float,
    norm_const: float,
    compute_u: bool = True,
    compute_Q: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    r"""Interactions :math:`c\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}` and their derivatives.

    Args:
        r: positions ``[n_atoms, 3]`` [A].
        sigma: width of the Gaussian charges [A].
        norm_const: the factor c.
        compute_u: also those with dipoles.
        compute_Q: also those with quadrupoles.

    Returns:
        The interactions of charges ``[n_atoms, n_atoms]``; minus the first derivatives by the
        position of the second atom ``[n_atoms, n_atoms, 3]``, with ``compute_u``; the second ones,
        with either; the third and the fourth ones, with ``compute_Q``. Each has a further axis of
        3, all are zero on the diagonal and ``None`` where they are not asked for.
    """
    d = r.unsqueeze(0) - r.unsqueeze(1)
    highest = 4 if compute_Q else 2 if compute_u else 0
    itself = torch.eye(r.shape[0], dtype=torch.bool, device=r.device)
    functions = boys(d.square().sum(dim=-1) / (2.0 * sigma**2), highest).masked_fill(itself, 0.0)
    first = norm_const * math.sqrt(2.0 / math.pi) / sigma
    g = [first * (-1.0 / sigma**2) ** n * value for n, value in enumerate(functions)]
    unit = torch.eye(3, dtype=r.dtype, device=r.device)

    def product(n: int, *factors: Tensor, ways: tuple[str, ...], axes: str) -> Tensor:
        """``g[n]`` times the sum over ``ways`` to give ``axes`` to the factors."""
        return sum(torch.einsum(f"ij,{way}->ij{axes}", g[n], *factors) for way in ways)  # type: ignore[return-value]

    minus_first = second = third = fourth = None
    if compute_u:
        minus_first = -product(1, d, ways=("ija",), axes="a")
    if compute_u or compute_Q:
        second = product(2, d, d, ways=("ija,ijb",), axes="ab")
        second = second + product(1, unit, ways=("ab",), axes="ab")
    if compute_Q:
        third = product(3, d, d, d, ways=("ija,ijb,ijc",), axes="abc")
        third = third + product(2, unit, d, ways=ONE_OF_THREE, axes="abc")
        fourth = product(4, d, d, d, d, ways=("ija,ijb,ijc,ijd",), axes="abcd")
        fourth = fourth + product(3, unit, d, d, ways=ONE_OF_FOUR, axes="abcd")
        fourth = fourth + product(2, unit, unit, ways=TWO_OF_FOUR, axes="abcd")
    return g[0], minus_first, second, third, fourth
