r"""Infrared spectra of liquids, crystals and molecules from the current of a trajectory.

.. math:: \epsilon''(\omega) = \frac{1}{3\,\epsilon_0 V k_B T\,\omega}
    \int_0^\infty \langle J(0)\cdot J(t)\rangle \cos\omega t\,dt

The nuclei are classical, with the harmonic quantum correction, so :math:`1/k_B T` is the only
factor. The autocorrelation is multiplied by a Gaussian window, which gives every line the width
that is requested as the resolution. calorine computes the integral and
the Kramers-Kronig relation (E. Lindgren et al., J. Open Source Softw. 9, 6264 (2024)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from les.optional_packages import optional
from les.ranges import check_number, is_number
from les.spectra.series import LIGHT, CurrentSeries, nyquist_limit, write_table

#: Full width at half maximum of a Gaussian, in its standard deviations.
FULL_WIDTH = 2.0 * math.sqrt(2.0 * math.log(2.0))
#: Length of the autocorrelation that is used, in standard deviations of its window.
WINDOW = 5.0
#: Pieces of a trajectory that statistical errors come from.
BLOCKS = 4
#: Columns of the tables of a periodic structure and of a molecule.
PERIODIC_COLUMNS = (
    "wavenumber",
    "absorption_times_index",
    "absorption_times_index_error",
    "epsilon_imag",
    "epsilon_real",
    "refractive_index",
    "extinction",
    "absorption",
)
MOLECULE_COLUMNS = ("wavenumber", "intensity", "intensity_error")


@dataclass(frozen=True)
class Spectrum:
    """An infrared spectrum.

    Attributes:
        wavenumber: ``[n]`` [1/cm].
        intensity: ``[n]``, the absorption coefficient times the refractive index
            ``omega epsilon'' / c`` [1/cm]; for a molecule in arbitrary units.
        error: ``[n]``, the standard error of ``intensity`` from pieces of the trajectory; NaN if
            the trajectory is too short to be divided.
        resolution: full width at half maximum of the narrowest line [1/cm].
        pieces: the spectra of the pieces ``[n_pieces, n]``.
        permittivity: ``[n]``, complex, ``eps_inf`` included; ``None`` for a molecule.
    """

    wavenumber: NDArray[np.float64]
    intensity: NDArray[np.float64]
    error: NDArray[np.float64]
    resolution: float
    pieces: NDArray[np.float64]
    permittivity: NDArray[np.complex128] | None = None

    @property
    def absorption(self) -> NDArray[np.float64]:
        """The absorption coefficient ``4 pi k / lambda`` [1/cm]; for a molecule, the intensity."""
        if self.permittivity is None:
            return self.intensity
        found: NDArray[np.float64] = (
            4.0 * math.pi * self.wavenumber * np.sqrt(self.permittivity).imag
        )
        return found

    def by_index(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the unit of ``intensity`` ``[..., n]``, divided by the refractive index.

        The results are values of an absorption coefficient. They are zero where the index is zero,
        because no wave propagates there. Values of a molecule are returned unchanged.
        """
        if self.permittivity is None:
            return values
        index = np.sqrt(self.permittivity).real
        return np.divide(values, index, out=np.zeros_like(values), where=index > 0)

    def write(self, path: Path) -> None:
        """Write a table of :data:`PERIODIC_COLUMNS`, or of :data:`MOLECULE_COLUMNS`."""
        own = [self.wavenumber, self.intensity, self.error]
        if self.permittivity is None:
            write_table(path, MOLECULE_COLUMNS, np.column_stack(own))
            return
        index = np.sqrt(self.permittivity)
        optical = [self.permittivity.imag, self.permittivity.real, index.real, index.imag]
        write_table(path, PERIODIC_COLUMNS, np.column_stack([*own, *optical, self.absorption]))


def window_of(resolution: float) -> float:
    """Standard deviation in time [fs] of the window that makes lines as wide as this [1/cm]."""
    return FULL_WIDTH / (2.0 * math.pi * LIGHT * resolution)


def check_resolution(duration: float, interval: float, resolution: float, highest: float) -> None:
    """Refuse a spectrum for which a trajectory is too short or too coarse.

    Args:
        duration: length of the trajectory [fs].
        interval: time from one current to the next [fs].
        resolution: full width at half maximum of the narrowest line [1/cm].
        highest: end of the spectrum [1/cm].

    Raises:
        ValueError: for wavenumbers that are not positive, a trajectory that is too short for the
            resolution, and an interval too long for ``highest``.
    """
    for name, value in (("resolution", resolution), ("highest", highest)):
        if not (is_number(value) and value > 0):
            raise ValueError(f"`{name}` must be a positive wavenumber in 1/cm, got {value!r}")
    needed = WINDOW * window_of(resolution)
    if duration < needed:
        raise ValueError(
            f"a resolution of {resolution:g} 1/cm needs a trajectory of {needed / 1000:.3g} ps, "
            f"got {duration / 1000:.3g} ps, which can resolve "
            f"{WINDOW * window_of(1.0) / duration:.3g} 1/cm"
        )
    if (nyquist := nyquist_limit(interval)) < highest:
        raise ValueError(
            f"a current every {interval:g} fs reaches {nyquist:.4g} 1/cm (Nyquist), got `highest` "
            f"= {highest:g} 1/cm: take currents more often, or a lower end"
        )


def infrared_spectrum(
    series: CurrentSeries,
    resolution: float = 20.0,
    eps_inf: float = 1.0,
    highest: float = 4500.0,
) -> Spectrum:
    """The spectrum of a trajectory.

    Args:
        series: the currents along the trajectory.
        resolution: full width at half maximum of the narrowest line [1/cm].
        eps_inf: high-frequency dielectric constant, without the contribution of nuclei; the Born
            effective charges must have been computed with it.
        highest: end of the spectrum [1/cm].

    Raises:
        BackendError: without calorine.
        ValueError: for numbers that are not positive, a trajectory that is too short for the
            resolution, and an interval too long for ``highest``.
    """
    check_number("eps_inf", eps_inf, "epsilon_factor")
    check_resolution(series.duration, series.interval, resolution, highest)
    needed = WINDOW * window_of(resolution)
    wavenumber, intensity, permittivity = _evaluate(series, resolution, eps_inf)
    n_pieces = min(BLOCKS, int(series.duration // (needed + 2 * series.interval)))
    pieces: NDArray[np.float64] = np.empty((0, len(wavenumber)))
    error = np.full(len(wavenumber), np.nan)
    if n_pieces > 1:
        pieces = np.array([_evaluate(x, resolution, eps_inf)[1] for x in series.blocks(n_pieces)])
        error = pieces.std(axis=0, ddof=1) / math.sqrt(n_pieces)
    keep = wavenumber <= highest
    return Spectrum(
        wavenumber[keep],
        intensity[keep],
        error[keep],
        resolution,
        pieces[:, keep],
        None if permittivity is None else permittivity[keep],
    )


def _evaluate(
    series: CurrentSeries, resolution: float, eps_inf: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.complex128] | None]:
    """Wavenumbers, intensities, and the permittivity of a periodic structure."""
    calorine = optional("calorine.tools")
    frame = optional("pandas").DataFrame(series.current, columns=["dPx", "dPy", "dPz"])
    options = {"dt": series.interval / 1000.0, "t_sigma": window_of(resolution) / 1000.0}
    if series.volume is None:
        found = calorine.get_ir_spectrum(frame, **options)
        return found["wavenumber_invcm"].to_numpy(), found["ir_intensity"].to_numpy(), None
    found = calorine.get_ir_spectrum(
        frame, volume=series.volume, temperature=series.mean_temperature, **options
    )
    found = calorine.apply_kramers_kronig(found)
    wavenumber, imaginary = (found[x].to_numpy() for x in ("wavenumber_invcm", "epsilon_imag"))
    # The relation gives what nuclei add to the permittivity of the electrons.
    permittivity = eps_inf + found["epsilon_real"].to_numpy() + 1j * imaginary
    return wavenumber, 2.0 * math.pi * wavenumber * imaginary, permittivity
