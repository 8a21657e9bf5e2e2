r"""Cardinal B-splines: their values, their polynomials, and their Fourier transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.sums.tables import kept_tables

#: Orders of the splines. Fewer than 4 have no continuous second derivative, and so no
#: continuous gradient of a loss on forces; more gain nothing in float64.
ORDERS = (4, 5, 6, 7, 8)

#: Tables are made once, on the CPU whatever the default device is, and moved where needed.
_EXACT: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}


def squared_factor(order: int, size: int, extent: int) -> Tensor:
    r"""What the splines do to :math:`|\rho_k|^2` along one axis, for n = 0 ... ``extent``.

    The square of their Fourier transform, :math:`(\sin x/x)^{2p}` at :math:`x=\pi n/K`, which is 1
    at n = 0 and falls towards K/2.

    That is right on average over where the points of the mesh are, but for the squares of the
    aliases. What smooth PME divides by, the transform of the spline's values at the points, is
    right for an atom at a point; on average it is wrong by the aliases themselves, in the same
    direction for each atom, so that energies jump by 10 to 100 times more where a mesh changes its
    size.

    Returns:
        ``[extent + 1]``, float64.
    """
    return torch.sinc(torch.arange(extent + 1, **_EXACT) / size) ** (2 * order)


def spline(order: int, x: float) -> float:
    """The B-spline of an order on its support 0 < x < order, from its recurrence."""
    if order == 1:
        return 1.0 if 0.0 <= x < 1.0 else 0.0
    rise, fall = x * spline(order - 1, x), (order - x) * spline(order - 1, x - 1.0)
    return (rise + fall) / (order - 1)


@kept_tables(at_most=64)
def pieces(order: int, n_derivatives: int) -> Tensor:
    """Coefficients of the polynomials that a spline consists of, ``[n_derivatives, order, order]``.

    The last axis are powers of t, where x = j + 1/2 + t in the j-th piece (second axis) and the
    first one is how often it is differentiated.
    """
    nodes = torch.linspace(-0.5, 0.5, order + 2, **_EXACT)[1:-1]
    powers = nodes.unsqueeze(1) ** torch.arange(order, **_EXACT)
    values = torch.tensor(
        [[spline(order, j + 0.5 + t) for t in nodes.tolist()] for j in range(order)], **_EXACT
    )
    found = [torch.linalg.solve(powers, values.t()).t()]
    for _ in range(1, n_derivatives):
        slope = torch.zeros_like(found[-1])
        slope[:, :-1] = found[-1][:, 1:] * torch.arange(1, order, **_EXACT)
        found.append(slope)
    return torch.stack(found)
