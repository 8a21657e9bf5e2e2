"""Pictures of spectra and phonons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from les.figures import new_figure, save
from les.spectra.experiment import Experiment
from les.spectra.harmonic import HarmonicModes
from les.spectra.infrared import Spectrum
from les.spectra.peaks import maxima, peaks
from les.spectra.raman_spectrum import RamanSpectrum

#: What the vertical axis is called.
LABELS = {
    "absorption_times_index": r"$\alpha n$ [$10^3$ cm$^{-1}$]",
    "absorption": r"$\alpha$ [$10^3$ cm$^{-1}$]",
    "molecule": "intensity [arb. units]",
}


def draw_spectrum(
    spectrum: Spectrum, path: Path, title: str = "", experiment: Experiment | None = None
) -> None:
    """Draw a spectrum with its standard error and the positions of its maxima.

    A measured spectrum of a known quantity is drawn as it is; another one is scaled to the same
    maximum, and the legend says so. Wavenumbers are those of the model.
    """
    figure, axes = _axes()
    grid, values, error, kind = spectrum.wavenumber, spectrum.intensity, spectrum.error, "molecule"
    if spectrum.permittivity is not None:
        kind = "absorption_times_index"
        values, error = values / 1000.0, error / 1000.0
        if experiment is not None and experiment.quantity == "absorption":
            kind = "absorption"
            values = spectrum.absorption / 1000.0
            error = spectrum.by_index(error)
    axes.plot(grid, values, color="C0", label="model")
    if np.isfinite(error).all():
        axes.fill_between(grid, values - error, values + error, color="C0", alpha=0.25, linewidth=0)
    if experiment is not None:
        measured, label = experiment.values / 1000.0, "experiment"
        if kind == "molecule" or experiment.quantity == "unknown":
            # The grid ends less than a step before the end that was asked for.
            end = grid[-1] + (grid[-1] - grid[-2])
            inside = (experiment.wavenumber >= 0) & (experiment.wavenumber <= end)
            measured = experiment.values * values.max() / experiment.values[inside].max()
            label = "experiment, scaled to the same maximum"
        axes.plot(experiment.wavenumber, measured, color="black", linewidth=1.0, label=label)
    for peak in peaks(spectrum, absorption=kind == "absorption"):
        height = values[np.abs(grid - peak.wavenumber).argmin()]
        _annotate(axes, peak.wavenumber, height)
    axes.margins(y=0.1)
    axes.set(xlim=(0, grid.max()), ylabel=LABELS[kind], title=title)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend()
    save(figure, path)


def draw_raman(spectrum: RamanSpectrum, path: Path, title: str = "") -> None:
    """Draw a Raman spectrum and the positions of its maxima."""
    figure, axes = _axes()
    grid, values = spectrum.wavenumber, spectrum.intensity / spectrum.intensity.max(initial=1e-300)
    axes.plot(grid, values, color="C0")
    for top, _, _ in maxima(values, 0.03):
        _annotate(axes, grid[top], values[top])
    axes.margins(y=0.1)
    axes.set(xlim=(0, grid.max()), ylabel="Raman intensity [arb. units]", title=title)
    axes.set_ylim(bottom=0.0)
    save(figure, path)


def draw_modes(modes: HarmonicModes, path: Path, resolution: float = 20.0, title: str = "") -> None:
    """Draw harmonic modes as sticks and as lines of a width."""
    figure, axes = _axes()
    highest = 1.1 * float(modes.wavenumber.max(initial=100.0))
    grid, absorption = modes.broadened(resolution, highest)
    peak = absorption.max(initial=1e-300)
    axes.plot(grid, absorption * modes.intensity.max(initial=0.0) / peak, color="C0")
    real = modes.wavenumber > 0
    axes.vlines(modes.wavenumber[real], 0.0, modes.intensity[real], color="C3")
    axes.set(xlim=(0, highest), ylabel="intensity [km/mol]", title=title)
    axes.set_ylim(bottom=0.0)
    save(figure, path)


def _annotate(axes: Any, wavenumber: float, height: float) -> None:
    axes.annotate(
        f"{wavenumber:.0f}",
        (wavenumber, height),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _axes() -> tuple[Any, Any]:
    figure = new_figure()
    axes = figure.subplots()
    axes.set_xlabel(r"wavenumber [cm$^{-1}$]")
    return figure, axes
