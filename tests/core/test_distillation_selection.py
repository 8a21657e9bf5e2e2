"""Which configurations are chosen, and how they are divided."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from les.distillation.descriptor import descriptors
from les.distillation.selection import farthest_points, select
from les.distillation.settings import SelectionSettings, SplitSettings
from les.distillation.split import split


def rattled(n, amplitude=0.1, name="H2O"):
    frames = []
    for seed in range(n):
        atoms = molecule(name)
        atoms.rattle(amplitude, seed=seed)
        frames.append(atoms)
    return frames


def test_descriptors_do_not_see_orientation_and_order():
    atoms = molecule("CH3OH")
    turned = atoms.copy()
    turned.rotate(50.0, (1, 2, 3))
    turned.positions += 7.0
    turned = turned[np.random.default_rng(0).permutation(len(turned))]
    others = rattled(2, name="CH3OH")
    rows = descriptors([atoms, turned, *others], 5.0)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-9)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3


def test_descriptors_of_a_supercell_are_the_same():
    cell = bulk("NaCl", "rocksalt", a=5.64)
    rows = descriptors([cell, cell * (2, 1, 1), bulk("NaCl", "rocksalt", a=5.8)], 6.0)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-9)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3


def test_each_point_is_the_farthest_from_those_before():
    points = np.random.default_rng(7).normal(size=(60, 3))
    for seed in range(3):
        chosen = farthest_points(points, 12, np.random.default_rng(seed))
        assert len(set(chosen)) == 12
        for n in range(1, 12):
            before = points[chosen[:n]]
            nearest = np.linalg.norm(points[:, None] - before, axis=-1).min(axis=1)
            assert nearest[chosen[n]] == nearest.max()
        assert chosen == farthest_points(points, 12, np.random.default_rng(seed))


def test_copies_are_not_chosen_twice():
    frames = rattled(4)
    chosen = select([*frames, *frames], SelectionSettings(count=8), seed=0)
    assert len(chosen) == 4
    assert len({n % 4 for n in chosen}) == 4


def test_outliers_are_chosen_and_scans_are_kept():
    frames = rattled(20, 0.01)
    frames[7] = rattled(1, 0.3)[0]
    for atoms in frames[:3]:
        atoms.info["origin"] = "scan"
    chosen = select(frames, SelectionSettings(count=3), seed=4)
    assert {0, 1, 2, 7} <= set(chosen)
    assert len(chosen) == 6
    assert chosen == sorted(chosen)
    assert chosen == select(frames, SelectionSettings(count=3), seed=4)
    assert select(frames, SelectionSettings(), seed=4) == list(range(20))


# --- sets


def trajectories(*lengths):
    frames = []
    for number, length in enumerate(lengths):
        for frame in range(length):
            atoms = molecule("H2O")
            atoms.info.update(trajectory=f"t{number}", frame=frame)
            frames.append(atoms)
    return frames


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gap", [0, 1, 2])
def test_no_frame_has_a_neighbour_in_another_set(seed, gap):
    frames = trajectories(40, 40, 1, 1, 1)
    sets, left_out = split(frames, SplitSettings(0.15, 0.15, block=5, gap=gap), seed)
    numbers = [n for members in sets.values() for n in members]
    assert sorted([*numbers, *left_out]) == list(range(len(frames)))  # each once
    assert all(sets.values())
    where = {n: name for name, members in sets.items() for n in members}
    for one in numbers:
        for other in numbers:
            same = frames[one].info["trajectory"] == frames[other].info["trajectory"]
            near = abs(frames[one].info["frame"] - frames[other].info["frame"]) <= gap
            assert where[one] == where[other] or not (same and near)
    assert (len(left_out) > 0) == (gap > 0)
    assert sets == split(frames, SplitSettings(0.15, 0.15, block=5, gap=gap), seed)[0]
    assert len(sets["train"]) >= 0.6 * len(frames)


def test_structures_that_say_nothing_are_single():
    frames = rattled(20)
    sets, left_out = split(frames, SplitSettings(0.1, 0.2), 0)
    assert {name: len(members) for name, members in sets.items()} == {
        "train": 14, "valid": 2, "test": 4,
    }  # fmt: skip
    assert left_out == []


def test_too_few_blocks_are_refused():
    message = r"10 structures in 2 blocks leave nothing for the set.*block` \(5\)"
    with pytest.raises(ValueError, match=message):
        split(trajectories(10), SplitSettings(), 0)
