"""Spectra and dielectric constants of currents whose spectra are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ase import units

from les.spectra.dielectric import static_dielectric_constant
from les.spectra.experiment import read_experiment
from les.spectra.infrared import PERIODIC_COLUMNS, Spectrum, infrared_spectrum, window_of
from les.spectra.peaks import maxima, peaks
from les.spectra.pictures import draw_spectrum
from les.spectra.series import LIGHT, CurrentSeries

pytest.importorskip("calorine")

VOLUME, TEMPERATURE, WAVENUMBER, AMPLITUDE = 1500.0, 310.0, 1600.0, 0.02
#: ``1 / (eps_vac k_B T)`` in e, A and eV.
FACTOR = 4.0 * math.pi * 14.399645 / (units.kB * TEMPERATURE)


def cosine(duration=20000.0, interval=2.0, volume=VOLUME, noise=0.0):
    """The current of a dipole along x that swings at 1600 1/cm."""
    times = np.arange(0.0, duration, interval)
    current = np.zeros((len(times), 3))
    current[:, 0] = AMPLITUDE * np.cos(2.0 * math.pi * LIGHT * WAVENUMBER * times)
    current += noise * np.random.default_rng(0).normal(size=current.shape)
    return CurrentSeries(interval, current, np.full(len(times), TEMPERATURE), volume)


def test_one_oscillator():
    """A line of the width asked for, whose area is known."""
    spectrum = infrared_spectrum(cosine(), resolution=30.0, eps_inf=2.0)
    (peak,) = peaks(spectrum)
    assert peak.wavenumber == pytest.approx(WAVENUMBER, abs=4.0)
    # <J(0) J(t)> = A^2/2 cos(omega t), times the window, over half of all times.
    height = FACTOR / (3.0 * VOLUME * LIGHT) * AMPLITUDE**2 / 4.0
    height *= window_of(30.0) * math.sqrt(math.pi / 2.0)
    deviation = 30.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
    step = spectrum.wavenumber[1] - spectrum.wavenumber[0]
    area = spectrum.intensity.sum() * step
    assert area == pytest.approx(height * deviation * math.sqrt(2.0 * math.pi), rel=0.01)
    near = np.abs(spectrum.wavenumber - WAVENUMBER) < 100.0
    weights = spectrum.intensity[near] / spectrum.intensity[near].sum()
    spread = weights @ np.square(spectrum.wavenumber[near] - WAVENUMBER)
    assert math.sqrt(spread) == pytest.approx(deviation, rel=0.03)
    frequency = 2.0 * math.pi * LIGHT * WAVENUMBER
    static = 2.0 + FACTOR / (3.0 * VOLUME) * AMPLITUDE**2 / (2.0 * frequency**2)
    low = np.abs(spectrum.wavenumber - 100.0).argmin()
    assert spectrum.permittivity.real[low] == pytest.approx(static, rel=0.02)
    assert spectrum.permittivity.real[-1] < 2.0


def test_static_dielectric_constant():
    """The dipole swings with the amplitude A / omega; its fluctuations say the same."""
    frequency = 2.0 * math.pi * LIGHT * WAVENUMBER
    expected = 1.8 + FACTOR / (3.0 * VOLUME) * AMPLITUDE**2 / (2.0 * frequency**2)
    found = static_dielectric_constant(cosine(interval=0.5), eps_inf=1.8)
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert found.error < 0.01
    assert found.n_blocks == 4


def test_a_conductor_has_no_static_dielectric_constant():
    """A dipole that walks at random grows with the time, one that swings does not."""
    assert static_dielectric_constant(cosine()).growth == pytest.approx(1.0, abs=0.01)
    assert static_dielectric_constant(cosine()).converges
    steps = np.random.default_rng(0).normal(size=(20000, 3))
    walk = CurrentSeries(1.0, steps, np.full(len(steps), TEMPERATURE), VOLUME)
    found = static_dielectric_constant(walk)
    assert found.growth > 2.0
    assert not found.converges


def test_jackknife_of_independent_values():
    """The error of a variance is known for normal numbers, here of the dipole itself."""
    generator = np.random.default_rng(1)
    values = []
    for _ in range(40):
        moment = generator.normal(size=(4001, 3))
        series = CurrentSeries(1.0, np.diff(moment, axis=0), np.full(4000, TEMPERATURE), VOLUME)
        values.append(static_dielectric_constant(series, n_blocks=10))
    scatter = np.std([value.value for value in values], ddof=1)
    assert np.mean([value.error for value in values]) == pytest.approx(scatter, rel=0.35)


def test_errors_from_pieces():
    """Pieces of one cosine agree, those of noise do not."""
    quiet = infrared_spectrum(cosine(), resolution=60.0)
    assert quiet.pieces.shape == (4, len(quiet.wavenumber))
    assert quiet.error.max() < 0.03 * quiet.intensity.max()
    (peak,) = peaks(quiet)
    assert peak.error < 5.0
    noisy = infrared_spectrum(cosine(noise=0.02), resolution=60.0)
    assert np.median(noisy.error) > 10 * np.median(quiet.error)
    short = infrared_spectrum(cosine(duration=1300.0), resolution=60.0)
    assert np.isnan(short.error).all()
    assert math.isnan(peaks(short)[0].error)


def test_a_molecule_has_arbitrary_units(tmp_path):
    series = cosine(volume=None)
    spectrum = infrared_spectrum(series, resolution=30.0)
    assert spectrum.permittivity is None
    assert peaks(spectrum)[0].wavenumber == pytest.approx(WAVENUMBER, abs=4.0)
    spectrum.write(tmp_path / "spectrum.csv")
    draw_spectrum(spectrum, tmp_path / "spectrum.png")
    assert (tmp_path / "spectrum.csv").read_text().startswith("wavenumber,intensity,")
    with pytest.raises(ValueError, match="a molecule has no dielectric constant"):
        static_dielectric_constant(series)


def test_tables_and_pictures(tmp_path):
    """What is written obeys the relations between optical constants."""
    series = cosine()
    spectrum = infrared_spectrum(series, resolution=30.0, eps_inf=1.8)
    spectrum.write(tmp_path / "spectrum.csv")
    table = np.genfromtxt(tmp_path / "spectrum.csv", delimiter=",", names=True)
    assert table.dtype.names == PERIODIC_COLUMNS
    np.testing.assert_allclose(
        table["absorption"] * table["refractive_index"],
        table["absorption_times_index"],
        rtol=1e-6,
        atol=1e-6,
    )
    (tmp_path / "measured.csv").write_text("cm-1,n,k\n400,1.3,0.1\n1600,1.2,0.2\n")
    experiment = read_experiment(tmp_path / "measured.csv")
    draw_spectrum(spectrum, tmp_path / "spectrum.png", "one oscillator", experiment)
    assert (tmp_path / "spectrum.png").stat().st_size > 10_000
    series.write(tmp_path / "currents.csv")
    back = np.genfromtxt(tmp_path / "currents.csv", delimiter=",", names=True)
    np.testing.assert_allclose(back["Jx"], series.current[:, 0], rtol=1e-9, atol=1e-15)


def test_maxima_of_the_absorption_where_the_intensity_is_zero():
    """Errors come from pieces divided by the index, also where nothing is absorbed."""
    spectrum = infrared_spectrum(cosine(), resolution=60.0, eps_inf=1.8)
    silent = np.abs(spectrum.wavenumber - WAVENUMBER) > 300.0
    permittivity = spectrum.permittivity.real + 1j * np.where(
        silent, 0.0, spectrum.permittivity.imag
    )
    bare = replace(
        spectrum,
        intensity=np.where(silent, 0.0, spectrum.intensity),
        pieces=np.where(silent, 0.0, spectrum.pieces),
        permittivity=permittivity,
    )
    (peak,) = peaks(bare, absorption=True)
    index = np.sqrt(permittivity).real
    tops = spectrum.wavenumber[(bare.pieces / index).argmax(axis=1)]
    assert peak.error == pytest.approx(tops.std(ddof=1) / 2.0)
    assert abs(peak.wavenumber - tops.mean()) < 60.0
    np.testing.assert_allclose(bare.by_index(bare.intensity), bare.absorption, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 3.0}, r"needs a trajectory of 20.8 ps, got 20 ps, which can resolve 3.1"),
        ({"resolution": 0.0}, "`resolution` must be a positive wavenumber"),
        ({"highest": 9000.0}, r"every 2 fs reaches 8339 1/cm \(Nyquist\)"),
        ({"eps_inf": 0.0}, "`eps_inf` must be a positive number, got 0"),
        ({"eps_inf": -1.8}, "`eps_inf` must be a positive number, got -1.8"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        infrared_spectrum(cosine(), **options)


def test_bad_series():
    good = cosine(duration=100.0)
    with pytest.raises(ValueError, match="`interval` must be a positive time in fs, got 0"):
        CurrentSeries(0.0, good.current, good.temperature)
    with pytest.raises(ValueError, match="must have shape"):
        CurrentSeries(1.0, good.current[:, :2], good.temperature)
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        CurrentSeries(1.0, good.current[:1], good.temperature[:1])
    with pytest.raises(ValueError, match="`current` must be finite"):
        CurrentSeries(1.0, good.current * np.nan, good.temperature)
    with pytest.raises(ValueError, match="`eps_inf` must be a positive number, got 0"):
        static_dielectric_constant(good, eps_inf=0.0)
    with pytest.raises(ValueError, match="`n_blocks` must be at least 2"):
        static_dielectric_constant(good, n_blocks=1)


@pytest.mark.parametrize(
    ("text", "quantity", "values"),
    [
        ("c,n,k\n2,1.5,0.2\n1,1.5,0.1\n", "absorption_times_index", np.pi * np.array([0.6, 2.4])),
        ("cm-1,absorption\n1,5\n2,6\n", "absorption", [5, 6]),
        ("cm-1,k\n1,5\n2,6\n", "absorption", [20 * math.pi, 48 * math.pi]),
        ("# a paper\n1 5\n2 6\n", "unknown", [5, 6]),
    ],
)  # fmt: skip
def test_experiments(tmp_path, text, quantity, values):
    (tmp_path / "measured").write_text(text)
    experiment = read_experiment(tmp_path / "measured")
    assert experiment.quantity == quantity
    np.testing.assert_allclose(experiment.wavenumber, [1, 2])
    np.testing.assert_allclose(experiment.values, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a table of a spectrum, got 0 lines"),
        ("a,b\n1,2\n2\n", "line 3: must be a wavenumber"),
        ("a,b\n1,2\n2,x\n", "line 3: must be numbers"),
        ("a,b\n1,2\n2,nan\n", "line 3: must be a wavenumber"),
    ],
)
def test_bad_experiments(tmp_path, text, message):
    (tmp_path / "measured").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_experiment(tmp_path / "measured")


def test_measured_water(data_dir):
    """The maxima of water that are known from the tables."""
    folder = data_dir / "ir_reference"
    experiment = read_experiment(folder / "water_bertie_lan_1996_imaginary-refractive-index.csv")
    assert experiment.quantity == "absorption"
    inside = experiment.wavenumber < 4000.0
    found = maxima(experiment.values[inside], 0.03)
    tops = [experiment.wavenumber[inside][top] for top, _, _ in found]
    np.testing.assert_allclose(tops, [684.0, 1648.0, 3414.0], atol=1.0)


def test_errors_of_a_peak_beside_a_lower_one():
    """A piece in which the lower peak is the higher one does not move the other."""
    grid = np.arange(0.0, 3000.0, 10.0)

    def lines(*heights):
        centres = (700.0, 1650.0)
        return sum(
            height * np.exp(-0.5 * np.square((grid - centre) / 60.0))
            for height, centre in zip(heights, centres, strict=True)
        )

    pieces = np.array([lines(1.5, 1.0), lines(0.6, 2.0), lines(0.8, 2.0), lines(0.5, 1.5)])
    whole = pieces.mean(axis=0)
    found = peaks(Spectrum(grid, whole, pieces.std(axis=0), 20.0, pieces))
    assert [round(peak.wavenumber) for peak in found] == [700, 1650]
    assert all(peak.error < 10.0 for peak in found)
