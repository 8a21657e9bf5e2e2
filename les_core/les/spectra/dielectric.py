r"""The static dielectric constant from how the polarisation of a trajectory fluctuates.

.. math:: \epsilon_0 = \epsilon_\infty + \frac{\langle M^2\rangle - \langle M\rangle^2}
    {3\,\epsilon_{vac} V k_B T}, \qquad M(t) = \int_0^t J\,dt'

for a periodic cell whose surroundings conduct, which is what a periodic sum without the term
k = 0 means (M. Neumann, Mol. Phys. 50, 841 (1983)). The polarisation of liquids takes long to
fluctuate: about 10 ps for water, so trajectories of nanoseconds are needed for a converged
value, and the statistical error of a short one is itself too small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.ranges import check_number
from les.spectra.infrared import BLOCKS
from les.spectra.series import CurrentSeries
from les.units import BOLTZMANN_CONSTANT, COULOMB_CONSTANT

#: Growth of fluctuations from pieces to the whole, below which they are taken for bounded.
CONVERGED = 2.0


class StaticDielectricConstant(NamedTuple):
    """A static dielectric constant.

    Attributes:
        value: with ``eps_inf``.
        error: its standard error, from leaving out one piece of the trajectory after the other
            (jackknife).
        n_blocks: number of pieces.
        growth: fluctuations of the whole trajectory over the mean of those inside of pieces. It is
            1 for a dipole that forgets itself within a piece, and about ``n_blocks`` for one that
            drifts away, as in what conducts.
    """

    value: float
    error: float
    n_blocks: int
    growth: float

    @property
    def converges(self) -> bool:
        """Whether fluctuations have stopped growing with the length of the trajectory."""
        return self.growth < CONVERGED


def static_dielectric_constant(
    series: CurrentSeries, eps_inf: float = 1.0, n_blocks: int = BLOCKS
) -> StaticDielectricConstant:
    """The static dielectric constant of a trajectory at constant volume.

    Args:
        series: its currents.
        eps_inf: high-frequency dielectric constant; the Born effective charges must have been made
            with it.
        n_blocks: number of pieces that the error comes from.

    Raises:
        ValueError: for a molecule, an ``eps_inf`` that is not positive, and fewer frames than two
            for each piece or fewer pieces than two.
    """
    check_number("eps_inf", eps_inf, "epsilon_factor")
    if series.volume is None:
        raise ValueError("a molecule has no dielectric constant: the structure must be periodic")
    if n_blocks < 2 or len(series.current) < 2 * n_blocks:
        raise ValueError(
            f"`n_blocks` must be at least 2, with at least 2 frames in each, got {n_blocks} and "
            f"{len(series.current)} frames"
        )
    steps = 0.5 * series.interval * (series.current[1:] + series.current[:-1])
    moment = np.concatenate([np.zeros((1, 3)), steps.cumsum(axis=0)])
    thermal = BOLTZMANN_CONSTANT * series.mean_temperature
    factor = 4.0 * math.pi * COULOMB_CONSTANT / (3.0 * series.volume * thermal)
    places = np.array_split(np.arange(len(moment)), n_blocks)
    without = np.array([factor * _variance(np.delete(moment, place, axis=0)) for place in places])
    error = math.sqrt((n_blocks - 1) / n_blocks * np.square(without - without.mean()).sum())
    whole, inside = _variance(moment), np.mean([_variance(moment[place]) for place in places])
    growth = float(whole / inside) if inside > 0 else 1.0
    return StaticDielectricConstant(eps_inf + factor * whole, error, n_blocks, growth)


def _variance(moment: NDArray[np.float64]) -> float:
    """``<M^2> - <M>^2`` [e^2 A^2]."""
    return float(moment.var(axis=0).sum())
