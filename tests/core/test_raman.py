"""Raman scattering against what is known of two atoms."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.spectra.classical import FlexibleWater, RigidIons, water_molecule
from les.spectra.harmonic import COLUMNS, RAMAN_COLUMNS, harmonic_modes, relaxed
from les.spectra.raman import depolarisation, raman_activity
from les.spectra.raman_spectrum import raman_spectrum
from les.spectra.series import LIGHT, CurrentSeries
from les.units import COULOMB_CONSTANT

pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

#: How much the polarisability along the bond grows with its length [e^2 A / eV].
GROWTH = 0.4


class PolarisableIons(RigidIons):
    """Two ions whose dipole along the bond answers to a field, the more the longer the bond is."""

    used_labels = ("external_field",)

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        bond = atoms.positions[1] - atoms.positions[0]
        along = bond / np.linalg.norm(bond)
        field = np.array(atoms.info.get("external_field", np.zeros(3)))
        answer = GROWTH * np.linalg.norm(bond) * (along @ field) * along
        self.results["dipole"] = self.results["dipole"] + answer


def test_a_bond(tmp_path):
    """S = 45 (b/3)^2 + 7 b^2 = 12 b^2, divided by the reduced mass; one third is depolarised."""
    ions = Atoms("NaCl", [[0, 0, 0], [0.3, 0.4, 2.3]])
    ions = relaxed(PolarisableIons(bec=True), ions, fmax=1e-6)
    modes = harmonic_modes(ions.calc, ions, displacement=0.002, raman=True)
    mass = np.prod(ions.get_masses()) / ions.get_masses().sum()
    derivative = modes.polarisability_derivative
    expected = 12.0 * (GROWTH * COULOMB_CONSTANT) ** 2 / mass
    assert raman_activity(derivative)[0] == pytest.approx(expected, rel=1e-6)
    assert depolarisation(derivative)[0] == pytest.approx(1.0 / 3.0, rel=1e-6)
    modes.write(tmp_path / "modes.csv")
    table = np.genfromtxt(tmp_path / "modes.csv", delimiter=",", names=True)
    assert table.dtype.names == COLUMNS + RAMAN_COLUMNS
    assert table["raman_activity"] == pytest.approx(expected, rel=1e-6)


def test_isotropic_and_silent_modes():
    derivative = np.array([0.2 * np.eye(3), np.zeros((3, 3)), np.diag([1.0, -1.0, 0.0])])
    activity = raman_activity(derivative)
    assert activity[0] == pytest.approx(45.0 * (0.2 * COULOMB_CONSTANT) ** 2)
    assert activity[1] == 0.0
    np.testing.assert_allclose(depolarisation(derivative), [0.0, np.nan, 0.75], atol=1e-12)


def test_charges_that_do_not_answer():
    water = relaxed(FlexibleWater(bec=True), water_molecule(), fmax=1e-5)
    with pytest.raises(ValueError, match="models with `charge_equilibration` have"):
        harmonic_modes(water.calc, water, raman=True)


# --- trajectories


def vibrating(amplitudes, wavenumbers, n_frames=4000, interval=2.0):
    """A series whose polarisability has these parts ``[n, 3, 3]`` at these wavenumbers."""
    phases = 2.0 * np.pi * LIGHT * np.outer(interval * np.arange(n_frames), wavenumbers)
    tensors = 3.0 * np.eye(3) + np.einsum("tn,nab->tab", np.cos(phases), amplitudes)
    zeros = np.zeros((n_frames, 3))
    return CurrentSeries(interval, zeros, zeros[:, 0] + 300.0, None, tensors)


def test_lines_are_where_the_polarisability_vibrates():
    """Areas are those of the activities, times what the energy of a mode has of them."""
    pytest.importorskip("calorine")
    amplitudes = np.array([0.1 * np.eye(3), np.diag([0.2, -0.1, -0.1])])
    found = raman_spectrum(vibrating(amplitudes, [1000.0, 2500.0]), resolution=40.0)
    areas = []
    for part, centre in ((found.isotropic, 1000.0), (found.anisotropic, 2500.0)):
        assert found.wavenumber[part.argmax()] == pytest.approx(centre, abs=5.0)
        near = np.abs(found.wavenumber - centre) < 200.0
        areas.append(found.intensity[near].sum() / centre**2)
        assert part[near].sum() == pytest.approx(part.sum(), rel=0.02)
    activity = raman_activity(amplitudes)
    assert areas[0] / areas[1] == pytest.approx(activity[0] / activity[1], rel=0.02)


def test_bad_series():
    series = vibrating(np.zeros((1, 3, 3)), [1000.0], n_frames=100)
    with pytest.raises(ValueError, match="needs a trajectory of"):
        raman_spectrum(series)
    with pytest.raises(ValueError, match="the series has no polarisabilities"):
        raman_spectrum(CurrentSeries(2.0, series.current, series.temperature))
    with pytest.raises(ValueError, match=r"`polarisability` must have shape \[n_frames, 3, 3\]"):
        CurrentSeries(2.0, series.current, series.temperature, None, np.zeros((100, 3)))
    assert len(series.blocks(4)[0].polarisability) == 25
