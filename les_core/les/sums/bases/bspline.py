r"""Splines of a mesh: their polynomials, and their Fourier transform.

A component at a fraction x = n/K of the mesh's points is mixed up with its aliases at x + m, by the
ratio of the transforms there. That of the B-spline :math:`M_p` falls off as
:math:`(\sin\pi x/\pi x)^p`. From order ``FROM_ORDER`` on two of its continuous derivatives are
given up for a zero where the aliases are that matter,

.. math::
    \Phi = M_p + M_p''/(2\pi z)^2, \qquad
    \hat\Phi(x) = (\sin\pi x/\pi x)^p\,(1 - x^2/z^2),

which mixes up 2 to 7 times less with as many points: functions of maximal order and minimal
support, T. Blu, P. Thevenaz and M. Unser, IEEE Trans. Image Process. 10, 1069 (2001).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from les.sums.tables import kept_tables

#: Orders of the splines. Fewer than 4 have no continuous second derivative, and so no
#: continuous gradient of a loss on forces; more gain nothing in float64.
ORDERS = (4, 5, 6, 7, 8)

#: Where the transform is zero, as a fraction of the mesh's points, and from which order on. With
#: fewer points, second derivatives would not be continuous.
ZERO, FROM_ORDER = 0.76, 6

#: Tables are made once, on the CPU whatever the default device is, and moved where needed.
_EXACT: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}


def squared_factor(order: int, size: int, extent: int) -> Tensor:
    r"""What the splines do to :math:`|\rho_k|^2` along one axis, for n = 0 ... ``extent``.

    The square of their Fourier transform at :math:`n/K`, which is 1 at n = 0 and falls towards K/2.

    That is right on average over where the points of the mesh are, but for the squares of the
    aliases. What smooth PME divides by, the transform of the spline's values at the points, is
    right for an atom at a point; on average it is wrong by the aliases themselves, in the same
    direction for each atom, so that energies jump by 10 to 100 times more where a mesh changes its
    size.

    Returns:
        ``[extent + 1]``, float64.
    """
    x = torch.arange(extent + 1, **_EXACT) / size
    return (torch.sinc(x) ** order * (1.0 - curvature(order) * x**2)) ** 2


def curvature(order: int) -> float:
    r"""What a spline has of the second derivative of the B-spline, times :math:`4\pi^2`."""
    return ZERO**-2 if order >= FROM_ORDER else 0.0


def spline(order: int, x: float) -> float:
    """The spline of a mesh on its support 0 < x < order."""
    if order < FROM_ORDER:
        return bspline(order, x)
    ends, middle = bspline(order - 2, x) + bspline(order - 2, x - 2.0), bspline(order - 2, x - 1.0)
    return bspline(order, x) + curvature(order) / (4.0 * math.pi**2) * (ends - 2.0 * middle)


def bspline(order: int, x: float) -> float:
    """The B-spline of an order on its support 0 < x < order, from its recurrence."""
    if order == 1:
        return 1.0 if 0.0 <= x < 1.0 else 0.0
    rise, fall = x * bspline(order - 1, x), (order - x) * bspline(order - 1, x - 1.0)
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
