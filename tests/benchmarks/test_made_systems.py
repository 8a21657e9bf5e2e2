"""Controls that are made when they are needed: their physics, and what each of them is for."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from les_bench.systems import copper, doped_salt, random_charges
from les_bench.systems.coulomb import COULOMB, open_coulomb, periodic_coulomb
from les_bench.systems.ions import energy_and_forces
from les_bench.systems.systems import SYSTEMS

#: Of rock salt, for the distance of neighbours.
MADELUNG = 1.747564594633


def slopes(energy, positions, atom: int) -> np.ndarray:
    """Forces on one atom by finite differences."""
    found = []
    for axis in range(3):
        step = np.zeros_like(positions)
        step[atom, axis] = 1e-4
        found.append(-(energy(positions + step) - energy(positions - step)) / 2e-4)
    return np.array(found)


def test_periodic_coulomb() -> None:
    """Madelung's constant, and forces that are slopes; an open pair is Coulomb's law."""
    crystal = bulk("NaCl", "rocksalt", a=2.0, cubic=True) * (2, 2, 2)
    charges = np.where(crystal.numbers == 11, 1.0, -1.0)
    energy = periodic_coulomb(charges, crystal.positions, 4.0)[0]
    assert energy / 32 == pytest.approx(-COULOMB * MADELUNG, rel=1e-6)
    positions = crystal.positions + np.random.default_rng(0).normal(0, 0.1, crystal.positions.shape)
    forces = periodic_coulomb(charges, positions, 4.0)[1]
    expected = slopes(lambda x: periodic_coulomb(charges, x, 4.0)[0], positions, 3)
    np.testing.assert_allclose(forces[3], expected, rtol=0, atol=1e-4 * np.abs(forces).max())
    assert open_coulomb(np.array([1.0, -2.0]), np.diag([0.0, 4.0, 0])[:2])[0] == pytest.approx(
        -2 * COULOMB / 4
    )
    with pytest.raises(ValueError, match="`charges` must sum to zero, got 1"):
        periodic_coulomb(np.array([1.0]), np.zeros((1, 3)), 4.0)


def test_random_charges() -> None:
    frame = random_charges.structure(np.random.default_rng(3))
    assert frame.pbc.all()
    assert sorted(frame.arrays["REF_charges"]) == [-1.0] * 32 + [1.0] * 32

    def energy(positions: np.ndarray) -> float:
        near = random_charges._repulsion(positions)[0]
        return (
            near + periodic_coulomb(frame.arrays["REF_charges"], positions, random_charges.EDGE)[0]
        )

    assert energy(frame.positions) == pytest.approx(frame.info["REF_energy"])
    np.testing.assert_allclose(
        frame.arrays["REF_forces"][5], slopes(energy, frame.positions, 5), atol=1e-4
    )


def test_only_the_dopant_decides() -> None:
    """It turns the pair, and is farther from it than two layers of messages of 4 A reach."""

    def difference(doped: bool) -> float:
        both = (doped_salt.structure(doped, geometry) for geometry in ("wetting", "nonwetting"))
        wetting, not_wetting = (energy_and_forces(x.numbers, x.positions)[0] for x in both)
        return wetting - not_wetting

    without, doped = difference(False), difference(True)
    expected = 0.0  # one more charge, and those of the pair
    for geometry, sign in (("wetting", 1), ("nonwetting", -1)):
        atoms = doped_salt.structure(True, geometry)
        (dopant,) = np.flatnonzero(atoms.numbers == 12)
        sodium, chloride = atoms.get_distances(dopant, [-2, -1])
        expected += sign * COULOMB * (1 / sodium - 1 / chloride)
    assert doped - without == pytest.approx(expected, abs=1e-9)
    assert without > 0.05
    assert doped < -0.05
    for geometry in ("wetting", "nonwetting"):
        atoms = doped_salt.structure(True, geometry)
        (dopant,) = np.flatnonzero(atoms.numbers == 12)
        assert atoms.get_distances(dopant, [-2, -1]).min() > 14.0
    # An ion sees the two layers on either side: none sees both dopant and pair.
    assert doped_salt.LAYERS >= 5
    assert doped_salt.SPACING < 4.0 < 1.5 * doped_salt.SPACING


def test_frames_with_a_dopant(monkeypatch) -> None:
    monkeypatch.setattr(doped_salt, "N_RATTLES", {"test": 1})
    frames = doped_salt.make()["test"]
    assert [(frame.info["doped"], frame.info["geometry"]) for frame in frames] == [
        (False, "wetting"),
        (False, "nonwetting"),
        (True, "wetting"),
        (True, "nonwetting"),
    ]
    for frame in frames:
        charge = 1 if frame.info["doped"] else 0
        assert frame.info["total_charge"] == frame.arrays["REF_charges"].sum() == charge
        assert ("REF_dipole" in frame.info) != frame.info["doped"]


def test_copper() -> None:
    frames = [copper.structure(np.random.default_rng(seed)) for seed in range(4)]
    assert {len(frame) for frame in frames} == {31, 32}
    for frame in frames:
        assert np.abs(frame.arrays["REF_forces"].sum(axis=0)).max() < 1e-9
        assert frame.info["REF_stress"].shape == (6,)
    assert not SYSTEMS["copper"].electrostatic
    assert all(system.electrostatic for name, system in SYSTEMS.items() if name != "copper")
