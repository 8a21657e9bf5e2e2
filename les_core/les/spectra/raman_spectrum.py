r"""Raman spectra from the polarisability along a trajectory.

.. math:: I(\omega) = \omega^2 \int \big(45\,\langle a(0)\,a(t)\rangle
    + \tfrac{21}{2}\langle\mathrm{tr}\,\beta(0)\,\beta(t)\rangle\big)\cos\omega t\,dt, \qquad
    a = \tfrac13\mathrm{tr}\,\alpha, \quad \beta = \alpha - aI

with classical nuclei. The area of a line is proportional to the Raman activity of its mode
(``les.spectra.raman``); what is measured has the factor
:math:`(\omega_0 - \omega)^4 / (\omega (1 - e^{-\hbar\omega/k_BT}))` as well, with the frequency of
the light :math:`\omega_0`. The window is that of ``les.spectra.infrared``, and calorine computes
the integrals.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from les.optional_packages import optional
from les.spectra.infrared import check_resolution, window_of
from les.spectra.series import ELEMENTS, CurrentSeries, write_table

#: Columns of the table.
COLUMNS = ("wavenumber", "raman", "isotropic", "anisotropic")


@dataclass(frozen=True)
class RamanSpectrum:
    """A Raman spectrum, in arbitrary units.

    Attributes:
        wavenumber: ``[n]`` [1/cm].
        isotropic: ``[n]``, the part of the mean polarisability, without the squared frequency.
        anisotropic: ``[n]``, the part of what is left of the polarisability, likewise.
    """

    wavenumber: NDArray[np.float64]
    isotropic: NDArray[np.float64]
    anisotropic: NDArray[np.float64]

    @property
    def intensity(self) -> NDArray[np.float64]:
        """``[n]``, in which the area of a line is proportional to its Raman activity."""
        both = 45.0 * self.isotropic + 10.5 * self.anisotropic
        return np.square(self.wavenumber) * both

    def write(self, path: Path) -> None:
        """Write a table of :data:`COLUMNS`."""
        table = [self.wavenumber, self.intensity, self.isotropic, self.anisotropic]
        write_table(path, COLUMNS, np.column_stack(table))


def raman_spectrum(
    series: CurrentSeries, resolution: float = 20.0, highest: float = 4500.0
) -> RamanSpectrum:
    """The Raman spectrum of a trajectory.

    Args:
        series: with polarisabilities.
        resolution: full width at half maximum of the narrowest line [1/cm].
        highest: end of the spectrum [1/cm].

    Raises:
        BackendError: without calorine.
        ValueError: for a series without polarisabilities, and as
            ``les.spectra.infrared.check_resolution``.
    """
    if series.polarisability is None:
        raise ValueError("the series has no polarisabilities, which a Raman spectrum is made of")
    check_resolution(series.duration, series.interval, resolution, highest)
    columns = {name: series.polarisability[:, a, b] for name, (a, b) in ELEMENTS.items()}
    found = optional("calorine.tools").get_raman_spectrum(
        optional("pandas").DataFrame(columns),
        dt=series.interval / 1000.0,
        t_sigma=window_of(resolution) / 1000.0,
    )
    keep = found["wavenumber_invcm"].to_numpy() <= highest
    names = ("wavenumber_invcm", "raman_isotropic", "raman_anisotropic")
    return RamanSpectrum(*(found[name].to_numpy()[keep] for name in names))
