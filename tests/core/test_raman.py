"""Raman scattering against what is known of two atoms."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.spectra.classical import FlexibleWater, RigidIons, water_molecule
from les.spectra.harmonic import COLUMNS, RAMAN_COLUMNS, harmonic_modes, relaxed
from les.spectra.raman import depolarisation, raman_activity
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
