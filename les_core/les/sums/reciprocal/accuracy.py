r"""How fine the periodic sum has to be for a given accuracy of the forces.

For charges that know nothing of one another, :math:`|S(\mathbf k)|^2` is the same at all k and
the mean square force is an integral over :math:`e^{-\sigma^2k^2}`. So are the mean squares of
what a cutoff leaves out, and of what a mesh gets wrong: near a point
:math:`x=k_ah/2\pi` of its axis, a component is mixed up with its aliases at x + m, by
:math:`(x/(x+m))^{p-1}` in the gradient of a spline of order p. Where neighbouring charges cancel
forces are smaller at the same errors: ``CANCELLATION`` makes up for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.ranges import check_number, is_number
from les.sums.bases.bspline import ORDERS, curvature
from les.sums.reciprocal.cutoff import EDGE_TOLERANCE, TAPER_START

#: Choices of how a periodic sum is evaluated, and of how it ends.
METHODS = ("auto", "direct", "mesh")
CUTOFFS = ("smooth", "sharp")

#: Relative errors of forces per those of random charges. Water-like structures and rattled
#: crystals of ions have 5 to 18, and what is asked for has to hold for them.
CANCELLATION = 17.0

#: Parts of the error that a smooth cutoff, a sharp one and the mesh may make; their squares add
#: up. A sharp one may just miss a reflection of a crystal. The force of a charge on itself, an
#: error of the mesh alone, is not in the estimate.
SMOOTH_PART, SHARP_PART, MESH_PART = 0.7, 0.5, 0.15

#: The part of the mesh where accuracies are so coarse that energies would jump visibly where a mesh
#: changes its size.
COARSE_PART = 0.08

#: Difference of the mesh from the direct sum with the same cutoff where no accuracy is asked for.
MESH_ACCURACY = 1e-5

#: Accuracies that can be asked for. At the coarse end the estimate is no estimate any more, at
#: the fine one rounding takes over.
COARSEST, FINEST = 1e-1, 1e-9

#: The ``dl`` that stands for none given.
DEFAULT_DL = 2.0

#: Spacing of the mesh per ``dl`` up to which no component that is needed is its own alias.
LARGEST_SPACING = 0.5 / (1.0 + 10.0 * EDGE_TOLERANCE)

#: Work per mesh point, in units of that per pair of atom and mesh point, and volume per atom
#: [A^3]: for the choice of an order.
POINT_COST, ATOM_VOLUME = 5.0, 10.0

#: k sigma beyond which nothing is left.
_END = 9.0


class Resolution(NamedTuple):
    """What decides about the error of the periodic sum."""

    #: ``k_max = 2 pi / dl`` [A].
    dl: float
    #: Largest distance of mesh points along a lattice vector [A].
    spacing: float
    #: Order of the splines.
    order: int

    def work(self) -> float:
        """Work per atom of a mesh with this spacing and order."""
        return self.order**3 + POINT_COST * ATOM_VOLUME / self.spacing**3


def resolve(
    sigma: float,
    dl: float = DEFAULT_DL,
    smooth: bool = True,
    accuracy: float | None = None,
    spacing: float | None = None,
    order: int | None = None,
) -> Resolution:
    """Settings of the sum from those that a user has given.

    Args:
        sigma: width of the Gaussian charges [A].
        dl: resolution [A]; 2.0 counts as not given where there is an ``accuracy``.
        smooth: whether the cutoff is smooth.
        accuracy: largest relative error of forces, root mean square.
        spacing: of the mesh [A], together with ``order``.
        order: of the splines.

    Raises:
        ValueError: for values out of range, and for those that contradict one another.
    """
    check_number("sigma", sigma)
    check_number("dl", dl)
    if (spacing is None) != (order is None):
        raise ValueError(
            "`spacing` and `order` must be given together, "
            f"got `spacing` = {spacing!r} and `order` = {order!r}"
        )
    if accuracy is not None:
        return _from_accuracy(sigma, dl, smooth, accuracy, spacing)
    if spacing is None or order is None:
        return _from_error(sigma, dl, smooth, MESH_ACCURACY)
    if isinstance(order, bool) or order not in ORDERS:
        raise ValueError(f"`order` must be one of {ORDERS}, got {order!r}")
    if not (is_number(spacing) and spacing > 0.0):
        raise ValueError(f"`spacing` must be positive and finite, got {spacing!r}")
    if spacing > dl * LARGEST_SPACING:
        raise ValueError(
            f"`spacing` must be below dl / 2 = {dl / 2.0:g} A, so that the mesh resolves "
            f"k_max = 2 pi / dl, got {spacing:g}"
        )
    return Resolution(float(dl), float(spacing), int(order))


def _from_accuracy(
    sigma: float, dl: float, smooth: bool, accuracy: float, spacing: float | None
) -> Resolution:
    if not (is_number(accuracy) and FINEST <= accuracy <= COARSEST):
        raise ValueError(
            f"`accuracy` must be a number between {FINEST:g} and {COARSEST:g}, got {accuracy!r}"
        )
    if spacing is not None:
        raise ValueError(
            f"`spacing` and `order` must be left out with `accuracy`, from which they follow, "
            f"got `spacing` = {spacing!r}"
        )
    needed = _largest_dl(sigma, smooth, accuracy)
    if dl == DEFAULT_DL:
        dl = needed
    elif dl > needed:
        raise ValueError(
            f"`dl` must be at most {needed:g} A for `accuracy` = {accuracy:g}, got {dl:g}; it may "
            "be left out"
        )
    return _from_error(sigma, dl, smooth, accuracy)


def cutoff_error(sigma: float, dl: float, smooth: bool) -> float:
    """Relative error of forces on random charges due to the cutoff."""
    k_max = 2.0 * math.pi * sigma / dl
    k, weights = _quadrature(0.0, _END + k_max, 400)
    left_out = (1.0 - _weight(k, k_max, smooth)) ** 2
    return _root_mean(left_out * np.exp(-(k**2)), weights)


def mesh_error(sigma: float, dl: float, smooth: bool, spacing: float, order: int) -> float:
    """Relative difference of forces on random charges from those of the direct sum."""
    k_max = 2.0 * math.pi * sigma / dl
    k, weights = _quadrature(0.0, min(k_max, _END), 60)
    cosines, solid_angle = _quadrature(0.0, 1.0, 12)
    x = np.outer(k, cosines) * spacing / (2.0 * math.pi * sigma)
    aliases = sum(_mixed_up(x, m, order) for m in (-2, -1, 1, 2))
    mixed = 3.0 * (aliases @ solid_angle)
    return _root_mean(_weight(k, k_max, smooth) ** 2 * np.exp(-(k**2)) * mixed, weights)


def _mixed_up(x: NDArray[Any], m: int, order: int) -> Any:
    """Square of what gradients at x + m have of the component at x."""
    curved = curvature(order)
    ratio = (1.0 - curved * (x + m) ** 2) / (1.0 - curved * x**2)
    return (ratio * (x / (x + m)) ** (order - 1)) ** 2


@functools.lru_cache(maxsize=64)
def _largest_dl(sigma: float, smooth: bool, accuracy: float) -> float:
    target = (SMOOTH_PART if smooth else SHARP_PART) * accuracy / CANCELLATION
    return sigma * _largest(lambda dl: cutoff_error(1.0, dl, smooth), target, 0.3, 6.0)


@functools.lru_cache(maxsize=64)
def _from_error(sigma: float, dl: float, smooth: bool, accuracy: float) -> Resolution:
    """The order that needs least work for its spacing."""
    coarse = max(COARSE_PART * accuracy, MESH_PART * MESH_ACCURACY)
    target = min(MESH_PART * accuracy, coarse) / CANCELLATION
    found = []
    for order in ORDERS:
        most = dl / sigma * LARGEST_SPACING

        def error(spacing: float, order: int = order) -> float:
            return mesh_error(1.0, dl / sigma, smooth, spacing, order)

        spacing = _largest(error, target, 1e-3 * most, most)
        # Rounding must not exceed what `resolve` accepts.
        spacing = min(sigma * spacing, dl * LARGEST_SPACING)
        found.append(Resolution(float(dl), spacing, order))
    return min(found, key=Resolution.work)


def _largest(
    error: Callable[[float], float], target: float, smallest: float, largest: float
) -> float:
    """The largest argument of a growing function up to ``target``, to four digits."""
    if error(largest) <= target:
        return largest
    while largest / smallest > 1.0 + 1e-4:
        middle = math.sqrt(smallest * largest)
        if error(middle) <= target:
            smallest = middle
        else:
            largest = middle
    return smallest


@functools.lru_cache(maxsize=8)
def _legendre(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return nodes, weights


def _quadrature(
    first: float, last: float, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights between two ends."""
    nodes, weights = _legendre(n)
    half = 0.5 * (last - first)
    return first + half * (nodes + 1.0), half * weights


def _weight(k: NDArray[np.float64], k_max: float, smooth: bool) -> NDArray[np.float64]:
    """The cutoff, as ``cutoff.cutoff_weight``."""
    if not smooth:
        return (k <= k_max).astype(np.float64)
    t = np.clip(((k / k_max) ** 2 - TAPER_START**2) / (1.0 - TAPER_START**2), 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)


def _root_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Square root of the integral, of which all forces have sqrt(pi) / 2."""
    return math.sqrt(float(values @ weights) / (0.5 * math.sqrt(math.pi)))
