"""Phonons of a crystal of point charges, whose longitudinal modes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from les.spectra.classical import FlexibleWater, RigidIons, water_molecule
from les.spectra.phonons import nac_params, phonons, phonopy_atoms, write_born

pytest.importorskip("phonopy")
pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

#: Edge of the cubic cell at the minimum of the energy [A].
EDGE = 5.69


@pytest.fixture(scope="module")
def crystal():
    return bulk("NaCl", "rocksalt", a=EDGE)


@pytest.fixture(scope="module")
def phonon(crystal):
    return phonons(RigidIons(bec=True), crystal, (2, 2, 2))


def frequencies(phonon, point, direction=None):
    phonon.run_qpoints([point], nac_q_direction=direction)
    return phonon.qpoints.frequencies[0]


@pytest.mark.parametrize("direction", [(1, 0, 0), (1, 1, 0), (1, 2, 3)])
def test_splitting_at_the_zone_centre(phonon, crystal, direction):
    """``omega_LO^2 - omega_TO^2 = 4 pi k_e q^2 / (V mu)``, along all directions."""
    found = frequencies(phonon, (0, 0, 0), direction)
    np.testing.assert_allclose(found[:3], 0.0, atol=1e-3)
    transverse, longitudinal = found[3], found[5]
    assert found[4] == pytest.approx(transverse, rel=1e-6)
    mass = np.prod(crystal.get_masses()) / crystal.get_masses().sum()
    squared = 4.0 * math.pi * 14.399645 / (crystal.get_volume() * mass)
    expected = math.sqrt(squared) / (2.0 * math.pi) * units.s * 1e-12  # THz
    assert math.sqrt(longitudinal**2 - transverse**2) == pytest.approx(expected, rel=1e-5)


def test_without_the_term_there_is_no_splitting(crystal):
    bare = phonons(RigidIons(bec=True), crystal, (2, 2, 2), splitting=False)
    found = frequencies(bare, (0, 0, 0), (1, 0, 0))
    assert np.ptp(found[3:]) < 1e-3


def test_the_model_says_the_same_itself(crystal, phonon):
    """A long wave in a long cell needs no term: both kinds of mode come from forces alone."""
    repeats = 10
    half = EDGE / math.sqrt(2.0)
    cell = np.diag([half, half, EDGE])
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]]
    atoms = Atoms("Na2Cl2", scaled_positions=places, cell=cell, pbc=True).repeat((1, 1, repeats))
    wave = np.cos(2.0 * math.pi * atoms.positions[:, 2] / (repeats * EDGE))
    model = RigidIons(bec=True)
    masses = crystal.get_masses()
    found = {}
    for axis in (0, 2):
        matrix = np.zeros((2, 2))
        for column, number in enumerate((11, 17)):
            moved = atoms.copy()
            moved.positions[:, axis] += 1e-3 * wave * (atoms.numbers == number)
            forces = model.get_property("forces", moved)[:, axis]
            for row, other in enumerate((11, 17)):
                kind = atoms.numbers == other
                matrix[row, column] = -2.0 * (forces * wave)[kind].mean() / 1e-3
        matrix /= np.sqrt(np.outer(masses, masses))
        squared = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[1]
        found[axis] = math.sqrt(squared) / (2.0 * math.pi) * units.s * 1e-12
    expected = frequencies(phonon, (0, 0, 0), (0, 0, 1))
    assert found[2] == pytest.approx(expected[5], rel=0.02)
    assert found[0] == pytest.approx(expected[3], rel=0.02)


def test_eps_inf_changes_no_frequency(crystal, phonon):
    """The charges are screened already, as the file says with both numbers."""
    screened = phonons(RigidIons(bec=True, eps_inf=2.3), crystal, (2, 2, 2))
    given = screened.nac_params
    np.testing.assert_allclose(given["dielectric"], 2.3 * np.eye(3))
    np.testing.assert_allclose(given["born"][0], math.sqrt(2.3) * np.eye(3), atol=1e-9)
    np.testing.assert_allclose(
        frequencies(screened, (0, 0, 0), (1, 0, 0)),
        frequencies(phonon, (0, 0, 0), (1, 0, 0)),
        atol=1e-3,
    )


def test_file(crystal, tmp_path):
    """Phonopy reads what is written, and makes the charges of all atoms of it."""
    from phonopy.file_IO import parse_BORN
    from phonopy.structure.cells import get_primitive

    model = RigidIons(bec=True, eps_inf=2.3)
    charges = write_born(model, crystal, tmp_path / "BORN")
    primitive = get_primitive(phonopy_atoms(crystal), np.eye(3))
    read = parse_BORN(primitive, filename=str(tmp_path / "BORN"))
    given = nac_params(model, crystal)
    np.testing.assert_allclose(read["born"], charges, atol=1e-7)
    np.testing.assert_allclose(read["born"], given["born"], atol=1e-7)
    np.testing.assert_allclose(read["dielectric"], given["dielectric"], atol=1e-7)
    assert read["factor"] == pytest.approx(14.399652, rel=1e-5)


def test_equivalent_atoms_are_written_once(tmp_path):
    """In the cubic cell four atoms of each element are alike."""
    cubic = bulk("NaCl", "rocksalt", a=EDGE, cubic=True)
    write_born(RigidIons(bec=True), cubic, tmp_path / "BORN")
    lines = (tmp_path / "BORN").read_text().splitlines()
    assert len(lines) == 1 + 1 + 2
    assert [len(line.split()) for line in lines[1:]] == [9, 9, 9]


def test_bad_input(crystal, tmp_path):
    model = RigidIons(bec=True)
    for value in (0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match="`eps_inf` must be a positive number, got"):
            write_born(model, crystal, tmp_path / "BORN", eps_inf=value)
    with pytest.raises(ValueError, match="three periodic axes, got pbc"):
        nac_params(FlexibleWater(bec=True), water_molecule())
    with pytest.raises(ValueError, match="make it with bec=True"):
        phonons(RigidIons(), crystal)
    assert not (tmp_path / "BORN").exists()
