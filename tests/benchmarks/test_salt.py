"""The system whose reference is a formula: its physics, its labels, its splits."""

from __future__ import annotations

import numpy as np
import pytest

from les_bench.systems import ions, salt
from les_bench.systems.datasets import find, load
from les_bench.systems.systems import get_system

SYSTEM = get_system("salt")


@pytest.fixture(scope="module")
def frames():
    return salt.make()


def test_forces_are_the_gradient() -> None:
    numbers = np.array([11, 17, 17, 11])
    positions = np.array([[0.0, 0, 0], [2.5, 0.1, 0], [0, 3.1, 0.4], [2.2, 2.9, -0.5]])
    forces = ions.energy_and_forces(numbers, positions)[1]
    assert np.abs(forces.sum(axis=0)).max() < 1e-12
    for atom, axis in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[atom, axis] = 1e-5
        change = np.subtract(
            *(ions.energy_and_forces(numbers, positions + s * step)[0] for s in (1, -1))
        )
        assert forces[atom, axis] == pytest.approx(-change / 2e-5, abs=1e-7)


def test_pairs_are_those_of_salt() -> None:
    """Opposite ions bind at the distance known of the molecule; far away it is Coulomb's law."""

    def energy(first: int, second: int, r: float) -> float:
        return ions.energy_and_forces(np.array([first, second]), np.diag([0.0, r, 0])[:2])[0]

    distances = np.arange(1.8, 6.0, 0.01)
    energies = [energy(11, 17, r) for r in distances]
    assert distances[int(np.argmin(energies))] == pytest.approx(2.36, abs=0.15)
    assert min(energies) == pytest.approx(-5.6, abs=0.4)  # to free ions
    assert energy(11, 17, 100.0) == pytest.approx(-14.3996 / 100, rel=1e-5)
    assert energy(17, 17, 100.0) == pytest.approx(14.3996 / 100, rel=1e-5)


def test_the_charges_are_in_all_labels(frames) -> None:
    for frame in (frame for split in frames.values() for frame in split):
        charges = frame.arrays["REF_charges"]
        assert set(np.abs(charges)) == {1.0}
        assert charges.sum() == 0.0
        assert not frame.pbc.any()
        np.testing.assert_allclose(frame.info["REF_dipole"], charges @ frame.positions)
        np.testing.assert_allclose(
            frame.arrays["REF_bec"].reshape(-1, 3, 3), charges[:, None, None] * np.eye(3)
        )
        assert np.abs(frame.arrays["REF_forces"]).max() < 7.0


def test_only_tests_go_farther_than_what_is_trained_on(frames) -> None:
    largest = {
        split: max(frame.get_all_distances().max() for frame in some)
        for split, some in frames.items()
    }
    assert largest["train"] <= 8.0 + 1e-9
    assert largest["valid"] <= 8.0 + 1e-9
    assert largest["test"] > 15.9
    scans = [frame for frame in frames["test"] if "distance" in frame.info]
    assert {frame.info["config_type"] for frame in scans} == {"Na+ and Cl-", "Na2Cl+ and NaCl2-"}


def test_it_is_the_same_every_time_and_needs_no_files(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path))
    assert find(SYSTEM)[0] == find(SYSTEM, "embedded")[0] == "made"
    first, second = load(SYSTEM), load(SYSTEM, "embedded")
    assert first.checksums == second.checksums
    assert first.source == "made"
    for a, b in zip(first.train, second.train, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)


def test_a_share_of_the_training_set() -> None:
    data = load(SYSTEM)
    half, fifth = data.reduced(0.5, 1), data.reduced(0.2, 1)
    assert (len(half.train), len(fifth.train)) == (100, 40)
    places = {frame.positions.tobytes() for frame in half.train}
    assert {frame.positions.tobytes() for frame in fifth.train} < places
    assert half.valid is data.valid
    assert half.fraction == 0.5
    other = {frame.positions.tobytes() for frame in data.reduced(0.5, 2).train}
    assert other != places
    assert data.reduced(1.0, 1) is data
    with pytest.raises(ValueError, match=r"a fraction of 0\.001 of 200 training frames is none"):
        data.reduced(0.001, 1)
