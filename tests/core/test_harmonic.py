"""Normal modes of molecules against ASE's, which come from dipoles, and against fields."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.optimize import BFGS
from ase.vibrations import Infrared

from les.spectra.classical import FlexibleWater, RigidIons, water_box, water_molecule
from les.spectra.field import HomogeneousField
from les.spectra.harmonic import COLUMNS, harmonic_modes, relaxed
from les.spectra.pictures import draw_modes

pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")


@pytest.fixture(scope="module")
def water():
    return relaxed(FlexibleWater(bec=True), water_molecule(), fmax=1e-5)


def test_against_dipoles(water, tmp_path):
    """ASE's infrared module displaces atoms and looks at the dipole."""
    found = harmonic_modes(water.calc, water, displacement=0.005)
    reference = Infrared(water, name=str(tmp_path / "vibrations"), delta=0.005, nfree=2)
    reference.run()
    expected = reference.get_frequencies()[-3:].real
    np.testing.assert_allclose(found.wavenumber, expected, rtol=1e-5)
    # ASE has (D/A)^2/u.
    reference.read()
    np.testing.assert_allclose(found.intensity, 42.2561 * reference.intensities[-3:], rtol=1e-3)
    overlaps = np.einsum("nia,mia->nm", found.vectors, found.vectors)
    np.testing.assert_allclose(overlaps, np.eye(3), atol=1e-12)


def test_polarisability_of_the_nuclei(water):
    """It is how the dipole of the relaxed molecule changes in a field."""
    found = harmonic_modes(water.calc, water, displacement=0.005).polarisability
    direction = np.array([0.0, 1.0, 0.0])
    dipoles = []
    for sign in (1.0, -1.0):
        moved = water.copy()
        moved.calc = HomogeneousField(FlexibleWater(bec=True), 0.005 * sign * direction)
        with BFGS(moved, logfile=None) as optimiser:
            assert optimiser.run(fmax=1e-7, steps=300)
        dipoles.append(moved.calc.get_property("dipole", moved))
    np.testing.assert_allclose((dipoles[0] - dipoles[1]) / 0.01, found @ direction, atol=2e-5)


def test_a_linear_molecule():
    """Two ions have one mode, whose frequency and intensity are known."""
    ions = relaxed(RigidIons(bec=True), Atoms("NaCl", [[0, 0, 0], [0.1, 0.2, 2.3]]), fmax=1e-6)
    modes = harmonic_modes(ions.calc, ions, displacement=0.002)
    assert modes.wavenumber.shape == (1,)
    mass = np.prod(ions.get_masses()) / ions.get_masses().sum()
    assert modes.intensity[0] == pytest.approx(974.88 / mass, rel=1e-4)
    axis = (ions.positions[1] - ions.positions[0]) / ions.get_distance(0, 1)
    energies = []
    for stretch in (-0.01, 0.0, 0.01):
        moved = ions.copy()
        moved.positions[1] += stretch * axis
        energies.append(ions.calc.get_property("energy", moved))
    constant = (energies[0] - 2 * energies[1] + energies[2]) / 1e-4
    assert modes.wavenumber[0] == pytest.approx(521.47 * np.sqrt(constant / mass), rel=1e-3)


def test_an_ion(water):
    """Intensities are those of the dipole about the centre of mass, wherever the charge is."""

    class Charged(FlexibleWater):
        """Has one charge more, on its first hydrogen atom."""

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["born_effective_charges"][1] += np.eye(3).reshape(-1)

    modes = harmonic_modes(Charged(bec=True), water)
    plain = harmonic_modes(water.calc, water)
    steps = modes.vectors / np.sqrt(water.get_masses())[:, None]
    np.testing.assert_allclose(
        modes.dipole_derivative, plain.dipole_derivative + steps[:, 1], atol=1e-10
    )
    centre = np.einsum("i,nia->na", water.get_masses(), steps)
    np.testing.assert_allclose(centre, 0.0, atol=1e-10)


def test_tables_and_pictures(water, tmp_path):
    modes = harmonic_modes(water.calc, water)
    modes.write(tmp_path / "modes.csv")
    draw_modes(modes, tmp_path / "modes.png")
    table = np.genfromtxt(tmp_path / "modes.csv", delimiter=",", names=True)
    assert table.dtype.names == COLUMNS
    grid, lines = modes.broadened(30.0)
    total = lines.sum() * (grid[1] - grid[0])
    assert total == pytest.approx(modes.intensity.sum(), rel=1e-6)
    assert (tmp_path / "modes.png").stat().st_size > 10_000


def test_an_unstable_structure():
    """A straight molecule wants to bend; what it has is said with a minus."""
    straight = Atoms("OH2", [[0, 0, 0], [1.07, 0, 0], [-1.07, 0, 1e-4]])
    modes = harmonic_modes(FlexibleWater(bec=True), straight, largest_force=10.0)
    assert modes.wavenumber[0] < -100.0
    with pytest.raises(ValueError, match="unstable along a mode of -"):
        modes.polarisability  # noqa: B018


def test_bad_input(water):
    model = FlexibleWater(bec=True)
    for arguments, message in (
        ((model, water_molecule()), "not at a minimum: the largest force is"),
        ((model, water_box()), "of molecules, got pbc"),
        ((model, Atoms("O")), "a single atom does not vibrate"),
        ((model, water, 0.0), "`displacement` must be a positive length in A, got 0.0"),
        ((FlexibleWater(), water), "make it with bec=True"),
    ):
        with pytest.raises(ValueError, match=message):
            harmonic_modes(*arguments)
    with pytest.raises(ValueError, match="not relaxed after 1 steps: the largest force is"):
        relaxed(model, water_molecule(), steps=1)
    with pytest.raises(ValueError, match="`resolution` must be a positive wavenumber, got 0"):
        harmonic_modes(model, water).broadened(0)
