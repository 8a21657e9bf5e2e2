"""The sphere of k-points that are summed: where it ends, and how its edge is smoothed."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

#: Where the smooth cutoff starts, as a fraction of ``k_max``.
TAPER_START = 0.8

#: Relative slack on ``|k| <= k_max``: a box commensurate with ``dl`` has k-points right on
#: the sphere, and rounding in a rotated frame must not decide whether they count.
EDGE_TOLERANCE = 1e-6


class GreensFunction(NamedTuple):
    """The periodic Green's function as plain numbers, which kernels take.

    ``start`` and ``end`` are those of :func:`cutoff_ends` [1/A^2].
    """

    #: Width of the Gaussian charges [A].
    sigma: float
    start: float
    end: float


def cutoff_ends(
    k_max: float,
    smooth: bool,
    taper_start: float = TAPER_START,
    edge_tolerance: float = EDGE_TOLERANCE,
) -> tuple[float, float]:
    """``|k|^2`` at which :func:`cutoff_weight` begins to fall, and where it ends.

    Args:
        k_max: radius of the k-sphere [1/A].
        smooth: taper, rather than step.
        taper_start: where the taper starts, as a fraction of ``k_max``.
        edge_tolerance: relative slack of the step.
    """
    if smooth:
        return (taper_start * k_max) ** 2, k_max**2
    edge = k_max**2 * (1.0 + edge_tolerance)
    return edge, edge


def cutoff_weight(k_squared: Tensor, start: float, end: float) -> Tensor:
    """Weight ``w(k)`` of a k-point: 1 well inside the sphere ``|k| <= k_max``, 0 outside.

    The sharp cutoff is a step; k-points that cross the sphere when the cell is strained
    make the energy jump. The smooth one falls from 1 at ``TAPER_START * k_max`` to 0 at
    ``k_max`` as the quintic ``1 - 10 t^3 + 15 t^4 - 6 t^5`` of ``t`` linear in ``|k|^2``,
    whose first two derivatives vanish at both ends.

    Args:
        k_squared: ``|k|^2`` [1/A^2], any shape.
        start: where the weight begins to fall; see :func:`cutoff_ends`.
        end: where it ends; a step if that is where it begins.
    """
    if start < end:
        t = ((k_squared - start) / (end - start)).clamp(0.0, 1.0)
        return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
    return (k_squared <= end).to(k_squared.dtype)
