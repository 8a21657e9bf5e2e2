"""A homogeneous field on models whose response is known."""

from __future__ import annotations

import gzip
import io
import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read
from ase.md.verlet import VelocityVerlet

from les.spectra.classical import FlexibleWater, RigidIons, water_box, water_molecule
from les.spectra.field import HomogeneousField
from les.spectra.polarisability import polarisability

pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")

FIELD = np.array([0.03, -0.05, 0.02])


def moving(atoms, temperature=300.0):
    """The structure with velocities, at rest as a whole."""
    generator = np.random.default_rng(0)
    widths = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    momenta = widths * generator.normal(size=(len(atoms), 3))
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
    return atoms


def test_forces_on_a_molecule():
    """They are the derivatives of the energy, and nothing pulls at the whole."""
    atoms = water_molecule()
    atoms.calc = HomogeneousField(FlexibleWater(bec=True), FIELD)
    forces = atoms.get_forces()
    for index in np.ndindex(forces.shape):
        sides = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[index] += sign * 1e-4
            moved.calc = atoms.calc
            sides.append(moved.get_potential_energy())
        assert forces[index] == pytest.approx((sides[1] - sides[0]) / 2e-4, abs=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize("constant", ["E", "D"])
def test_forces_on_a_crystal(constant):
    """The energy is followed along a path, on which atoms may be wrapped."""
    atoms = water_box()
    options = {"constant": constant} | ({"eps_inf": 1.8} if constant == "D" else {})
    atoms.calc = HomogeneousField(FlexibleWater(bec=True), FIELD, **options)
    step = 1e-3 * np.random.default_rng(1).normal(size=atoms.positions.shape)
    before, forces = atoms.get_potential_energy(), [atoms.get_forces()]
    atoms.positions += step
    atoms.wrap()
    work = atoms.get_potential_energy() - before
    forces.append(atoms.get_forces())
    assert work == pytest.approx(-0.5 * ((forces[0] + forces[1]) * step).sum(), rel=1e-4)
    bare = FlexibleWater(bec=True, acoustic_sum="spread")
    plain = bare.get_property("forces", atoms)
    assert np.abs(forces[1] - plain).max() > 1e-3


def test_constant_displacement():
    """Ions shifted against one another make a field against themselves."""
    crystal = bulk("NaCl", "rocksalt", a=5.69)
    field = HomogeneousField(RigidIons(bec=True), [0, 0, 0], constant="D", eps_inf=2.0)
    crystal.calc = field
    crystal.get_forces()
    crystal.positions[0, 2] += 0.05
    added = crystal.get_forces() - field.calculator.get_property("forces", crystal)
    expected = 4.0 * math.pi * 14.399645 * 0.05 / (crystal.get_volume() * 2.0)
    np.testing.assert_allclose(field.polarisation, [0.0, 0.0, 0.05], atol=1e-9)
    np.testing.assert_allclose(added[:, 2], [-expected, expected], rtol=1e-5)


@pytest.mark.parametrize("kind", ["molecule", "E", "D"])
def test_energy_is_conserved_in_a_static_field(kind):
    """The total energy stays, while the field does work on the model."""
    if kind == "molecule":
        atoms = moving(water_molecule())
        field = HomogeneousField(FlexibleWater(bec=True), 5 * FIELD)
    else:
        atoms = moving(bulk("NaCl", "rocksalt", a=5.69, cubic=True))
        field = HomogeneousField(RigidIons(bec=True), 5 * FIELD, constant=kind)
    atoms.calc = field
    dynamics = VelocityVerlet(atoms, 0.2 * units.fs if kind == "molecule" else units.fs)
    totals, bare = [], []
    for _ in range(60):
        dynamics.run(2)
        totals.append(atoms.get_total_energy())
        bare.append(field.calculator.results["energy"] + atoms.get_kinetic_energy())
    assert np.ptp(totals) < 0.02 * np.ptp(bare)
    assert np.ptp(bare) > 0.01
    assert abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10


@pytest.mark.slow
def test_no_drift_in_two_picoseconds():
    atoms = moving(water_molecule())
    atoms.calc = HomogeneousField(FlexibleWater(bec=True), 5 * FIELD)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    times, totals = [], []
    for _ in range(200):
        dynamics.run(20)
        times.append(dynamics.get_time() / (1000.0 * units.fs))
        totals.append(atoms.get_total_energy())
    assert times[-1] == pytest.approx(2.0)
    assert abs(np.polyfit(times, totals, 1)[0]) < 5e-4
    assert np.ptp(totals) < 1e-2


def test_a_field_that_depends_on_time():
    """Forces are those of the field at the end of each step."""
    atoms = moving(water_molecule())
    field = HomogeneousField(FlexibleWater(bec=True), lambda time: [0, 0.1 * math.sin(time), 0])
    atoms.calc = field
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    field.follow(dynamics)
    seen = []

    def compare():
        bare = field.calculator.get_property("forces", atoms)
        born = field.results["born_effective_charges"].reshape(-1, 3, 3)
        pulled = (atoms.get_forces() - bare)[0, 1]
        seen.append((dynamics.get_time() / units.fs, pulled / born[0, 1, 1]))

    dynamics.attach(compare)
    dynamics.run(6)
    times, fields = np.array(seen).T
    np.testing.assert_allclose(times, 0.5 * np.arange(7), atol=1e-12)
    np.testing.assert_allclose(fields, 0.1 * np.sin(times), atol=1e-12)


def test_slopes_are_born_effective_charges():
    """dF/dE of a structure is its Z*, and so is dmu/dr."""
    atoms = water_molecule()
    model = FlexibleWater(bec=True)
    born = model.get_property("born_effective_charges", atoms).reshape(-1, 3, 3)
    for axis in range(3):
        sides = [
            HomogeneousField(model, sign * 0.1 * np.eye(3)[axis]).get_property("forces", atoms)
            for sign in (1.0, -1.0)
        ]
        np.testing.assert_allclose((sides[0] - sides[1]) / 0.2, born[:, axis], atol=1e-10)
        dipoles = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * 1e-4
            dipoles.append(model.get_property("dipole", moved))
        slope = (dipoles[0] - dipoles[1]) / 2e-4
        np.testing.assert_allclose(slope, born[1, :, axis], atol=1e-7)


def frames(path):
    with gzip.open(path, "rt") as file:
        return read(io.StringIO(file.read()), ":", format="extxyz")


def one_geometry(structures):
    """The structures that have the positions which occur most often."""
    groups = {}
    for atoms in structures:
        groups.setdefault(atoms.positions.round(4).tobytes(), []).append(atoms)
    return max(groups.values(), key=len)


def slopes(structures, values):
    """Derivative of values by the field along x, by a straight line."""
    fields = [atoms.info["external_field"][0] for atoms in structures]
    shape = np.shape(values[0])
    fit = np.polyfit(fields, np.reshape(values, (len(fields), -1)), 1)[0]
    return fit.reshape(shape)


def test_water_in_a_field(data_dir):
    """Density-functional theory and a model answer to a field with forces of one sign."""
    folder = data_dir / "water_field"
    structures = [
        atoms
        for name in ("train", "validation")
        for atoms in frames(folder / f"water_field_{name}.xyz.gz")
    ]
    same = one_geometry(structures)
    assert len(same) >= 3
    reference = slopes(same, [atoms.get_forces() for atoms in same])[:, 0]
    oxygen = same[0].numbers == 8
    assert reference[oxygen].mean() == pytest.approx(-0.73, abs=0.03)
    assert reference.sum() == pytest.approx(0.0, abs=0.1)
    same.sort(key=lambda atoms: atoms.info["external_field"][0])
    fields = [atoms.info["external_field"][0] for atoms in same]
    dipoles = [atoms.get_dipole_moment()[0] for atoms in same]
    energies = [atoms.get_potential_energy() for atoms in same]
    steps = 0.5 * np.diff(fields) * (np.array(dipoles[1:]) + dipoles[:-1])
    np.testing.assert_allclose(np.diff(energies), -steps, atol=1e-3)
    polarisability_of_labels = np.mean([atoms.info["polarizability"][0] for atoms in same])
    assert slopes(same, dipoles) == pytest.approx(polarisability_of_labels, rel=0.03)
    model = FlexibleWater(bec=True)
    ordered = molecules(same[0])
    water = same[0][ordered]
    water.info.clear()
    found = []
    for atoms in same:
        given = np.array(atoms.info["external_field"], dtype=float)
        in_field = HomogeneousField(model, given, constant="E")
        found.append(in_field.get_property("forces", water))
    own = slopes(same, found)[:, 0]
    born = model.get_property("born_effective_charges", water).reshape(-1, 3, 3)
    np.testing.assert_allclose(own, born[:, 0, 0], atol=1e-9)
    assert np.corrcoef(own, reference[ordered])[0, 1] > 0.9


def molecules(atoms):
    """Indices of atoms as O, H, H, the nearest ones."""
    hydrogen = np.flatnonzero(atoms.numbers == 1)
    order = []
    for oxygen in np.flatnonzero(atoms.numbers == 8):
        near = atoms.get_distances(oxygen, hydrogen, mic=True).argsort()[:2]
        order += [oxygen, *hydrogen[near]]
    assert len(set(order)) == len(atoms)
    return order


def test_methylacetamide_in_a_field(data_dir):
    """Labels at several fields obey the sum rule and the sign of the field."""
    structures = frames(data_dir / "nma_field" / "nma_field_validation.xyz.gz")
    same = one_geometry(structures)
    assert len(same) >= 6
    reference = slopes(same, [atoms.get_forces() for atoms in same])
    np.testing.assert_allclose(reference.sum(axis=0), 0.0, atol=0.02)
    oxygen = same[0].numbers == 8
    assert reference[oxygen, 0].item() == pytest.approx(-0.99, abs=0.15)


# --- polarisability


class Polarisable(FlexibleWater):
    """A molecule whose dipole grows by 1.5 (e A)^2/eV times the field."""

    used_labels = ("external_field",)

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        field = np.array(atoms.info.get("external_field", np.zeros(3)))
        self.results["dipole"] = self.results["dipole"] + np.diag([1.5, 1.0, 0.5]) @ field


def test_polarisability():
    found = polarisability(Polarisable(), water_molecule())
    np.testing.assert_allclose(found, np.diag([1.5, 1.0, 0.5]), atol=1e-10)


def test_charges_that_do_not_answer_have_no_polarisability():
    with pytest.raises(ValueError, match="depend on positions alone and do not answer to a field"):
        polarisability(FlexibleWater(), water_molecule())
    with pytest.raises(ValueError, match="of molecules, got pbc"):
        polarisability(Polarisable(), water_box())
    with pytest.raises(ValueError, match="`strength` must be a positive field in V/A, got 0"):
        polarisability(Polarisable(), water_molecule(), 0)


# --- bad input


def test_bad_fields():
    model = FlexibleWater(bec=True)
    for field in ([0, 0], [0, 0, np.nan], [[0, 0, 1]]):
        with pytest.raises(ValueError, match="`field` must be three finite numbers in V/A"):
            HomogeneousField(model, field)
    with pytest.raises(ValueError, match="`constant` must be 'E' or 'D', got 'V'"):
        HomogeneousField(model, FIELD, constant="V")
    with pytest.raises(ValueError, match="`eps_inf` must be a positive number, got -1"):
        HomogeneousField(model, FIELD, constant="D", eps_inf=-1)
    with pytest.raises(ValueError, match="`eps_inf` has no effect without constant='D'"):
        HomogeneousField(model, FIELD, constant="E", eps_inf=2.0)
    with pytest.raises(ValueError, match=r"three finite numbers in V/A, got .* at 3 fs"):
        HomogeneousField(model, lambda time: None).field_at(3.0)


def test_a_field_along_a_periodic_axis_wants_to_know_what_is_constant():
    atoms = water_box()
    model = FlexibleWater(bec=True)
    with pytest.raises(ValueError, match=r"along the periodic axis 1: say what is held constant"):
        HomogeneousField(model, [0, 0.1, 0]).get_property("energy", atoms)
    slab = water_box()
    slab.pbc = (True, True, False)
    slab.cell[2, 2] = 40.0
    HomogeneousField(model, [0, 0, 0.1]).get_property("energy", slab)
    with pytest.raises(ValueError, match="three periodic axes, got pbc"):
        HomogeneousField(model, [0, 0, 0.1], constant="D").get_property("energy", slab)


def test_models_without_charges():
    with pytest.raises(ValueError, match="make it with bec=True"):
        HomogeneousField(FlexibleWater(), FIELD)
    with pytest.raises(ValueError, match="has no born_effective_charges"):
        HomogeneousField(EMT(), FIELD)


def test_ions_are_refused():
    """A field drives them away, and where their energy begins is not defined."""
    model = FlexibleWater(bec=True)
    ion = water_molecule()
    ion.info["total_charge"] = 1
    with pytest.raises(ValueError, match="the structure has total_charge = 1: a field drives"):
        HomogeneousField(model, FIELD).get_property("energy", ion)

    class Charged(RigidIons):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["born_effective_charges"] += np.eye(3).reshape(-1)

    pair = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    with pytest.raises(ValueError, match="must sum to zero, got 2 e"):
        HomogeneousField(Charged(bec=True), FIELD).get_property("energy", pair)


def test_the_cell_must_stay():
    atoms = water_box()
    atoms.calc = HomogeneousField(FlexibleWater(bec=True), FIELD, constant="E")
    atoms.get_potential_energy()
    atoms.set_cell(1.01 * atoms.cell[:], scale_atoms=True)
    with pytest.raises(ValueError, match="`atoms` must have the cell of the first frame"):
        atoms.get_potential_energy()
