"""Pairs that are kept from step to step: those that brute force finds, whatever happens."""

import copy
import pickle
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from les.neighbours import LARGEST_SKIN, Pairs, Places, Search, VerletList

CUTOFF = 3.0
CELL = np.array([[5.0, 0.3, 0.0], [1.3, 5.1, -0.2], [-0.8, 0.9, 4.8]])
AXES = {"open": (0, 0, 0), "wire": (0, 1, 0), "slab": (1, 1, 0), "crystal": (1, 1, 1)}


def brute_force(places: Places) -> Search:
    """All pairs within a radius, from all images that may be near; in no particular order."""
    turns = np.floor(np.linalg.solve(places.cell.T, places.positions.T).T).astype(int) * places.pbc
    positions = places.positions - turns @ places.cell
    ranges = [range(-3, 4) if axis else [0] for axis in places.pbc]
    images = np.array(list(product(*ranges)))
    vectors = positions[None, :, None] - positions[:, None, None] + images @ places.cell
    lengths = np.linalg.norm(vectors, axis=-1)

    def search(radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        search.radii.append(radius)
        first, second, image = np.nonzero((lengths < radius) & (lengths > 1e-9))
        order = np.random.default_rng(0).permutation(len(first))
        first, second, image = first[order], second[order], image[order]
        return first, second, images[image] + turns[first] - turns[second]

    search.radii = []
    return search


def at(positions: np.ndarray, name: str = "crystal", cell: np.ndarray = CELL) -> Places:
    return Places(positions, cell, np.array(AXES[name], dtype=bool))


def some_positions() -> np.ndarray:
    return np.random.default_rng(1).uniform(0.0, 1.0, (6, 3)) @ CELL


def assert_right(found: Pairs, places: Places) -> None:
    """The pairs are those of a search, in the one order, with their distances."""
    first, second, images = brute_force(places)(CUTOFF)
    order = np.lexsort((*images.T[::-1], second, first))
    np.testing.assert_array_equal(found.first, first[order])
    np.testing.assert_array_equal(found.second, second[order])
    np.testing.assert_array_equal(found.images, images[order])
    vectors = places.positions[found.second] - places.positions[found.first]
    vectors = vectors + found.images @ places.cell
    np.testing.assert_allclose(found.distances, np.linalg.norm(vectors, axis=1), rtol=1e-12)


def follow(kept: VerletList, steps: list[Places]) -> list[float]:
    """The radii of the searches along a trajectory, all of whose pairs are right."""
    radii = []
    for places in steps:
        search = brute_force(places)
        assert_right(kept.pairs(places, CUTOFF, search), places)
        radii += search.radii
    assert kept.n_searches == len(radii)
    return radii


@pytest.mark.parametrize("name", AXES)
def test_trajectory(name: str) -> None:
    rng, positions = np.random.default_rng(2), some_positions()
    steps = []
    for _ in range(60):
        positions = positions + rng.uniform(-0.06, 0.06, positions.shape)
        steps.append(at(positions, name))
    radii = follow(VerletList(0.8), steps)
    assert radii[:2] == [CUTOFF, CUTOFF + 0.8]
    assert 3 <= len(radii) < 20
    assert set(radii[1:]) == {CUTOFF + 0.8}


def test_without_a_skin() -> None:
    """Each step has a search, and pairs keep its order."""
    kept, places = VerletList(0.0), at(some_positions())
    for number in range(1, 4):
        found = kept.pairs(places, CUTOFF, brute_force(places))
        for each, expected in zip(found, brute_force(places)(CUTOFF), strict=False):
            np.testing.assert_array_equal(each, expected)
        assert kept.n_searches == number


@pytest.mark.parametrize("name", ["wire", "slab", "crystal"])
def test_atoms_moved_by_cell_vectors(name: str) -> None:
    """They have not moved, and neither have those that are moved a little besides."""
    start, pbc = some_positions(), np.array(AXES[name])
    turns = np.zeros((6, 3), dtype=int)
    turns[1], turns[4], turns[5] = [1, -2, 3], [-1, 0, 0], [400, 0, -300]
    wrapped = start + turns * pbc @ CELL + 0.1
    steps = [at(x, name) for x in (start, start + 0.2, start + 0.01, wrapped, start + 0.02)]
    assert len(follow(VerletList(1.0), steps)) == 2


def test_so_far_away_that_pairs_cannot_be_numbered() -> None:
    """Then they are sorted in another way."""
    places = at(some_positions())
    first, second, images = brute_force(places)(CUTOFF)
    turns = np.zeros((6, 3), dtype=int)
    turns[2] = 3_000_000
    far = at(places.positions + turns @ CELL)
    found = VerletList().pairs(
        far, CUTOFF, lambda radius: (first, second, images + turns[first] - turns[second])
    )
    order = np.lexsort((*images.T[::-1], second, first))
    np.testing.assert_array_equal(found.first, first[order])
    np.testing.assert_array_equal(found.second, second[order])


@pytest.mark.parametrize("sign", [1, -1])
def test_pressure(sign: int) -> None:
    """Cells that change, in volume and shape, with the atoms in them."""
    rng, scaled = np.random.default_rng(3), np.linalg.solve(CELL.T, some_positions().T).T
    growth = sign * np.array([[4e-3, 1e-3, 0.0], [0.0, 2e-3, -2e-3], [1e-3, 0.0, 5e-3]])
    steps = []
    for number in range(50):
        cell = CELL @ (np.eye(3) + number * growth)
        scaled = scaled + rng.uniform(-5e-3, 5e-3, scaled.shape)
        steps.append(at(scaled % 1.0 @ cell, cell=cell))
    least = 3 if sign < 0 else 2  # a cell that grows takes atoms apart
    assert least <= len(follow(VerletList(1.0), steps)) < 25


def test_pairs_that_a_strain_brings_closer_are_not_lost() -> None:
    """Atoms that do not move in a cell that shrinks: the strain alone counts."""
    scaled = np.linalg.solve(CELL.T, some_positions().T).T
    # The pair that is the farthest beyond the cutoff may be 4 A apart: until 3/4 of that.
    factors = (1.0, 0.999, 0.9, 0.76, 0.74)
    steps = [at(scaled @ (f * CELL), cell=f * CELL) for f in factors]
    radii = follow(VerletList(1.0), steps)
    assert radii == [CUTOFF, CUTOFF + 1.0, CUTOFF + 1.0 * (0.74 / 0.76 > 0.75)]


@pytest.mark.parametrize("speed", [0.49, 0.51])
def test_two_atoms_that_meet(speed: float) -> None:
    """The skin is used up by both: each may move by half of it."""
    start = np.array([[0.0, 0.0, 0.0], [3.99, 0.0, 0.0]])
    ways = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    radii = follow(VerletList(1.0), [at(start + f * ways, "open") for f in (0.0, 0.01, speed)])
    assert len(radii) == 2 + (speed - 0.01 > 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: at(x.positions[:5]),
        lambda x: at(x.positions, "slab"),
        lambda x: at(x.positions + np.eye(6, 3)),
    ],
    ids=["atoms", "axes", "positions"],
)
def test_other_structures(change: Callable[[Places], Places]) -> None:
    """They are searched anew, and not beyond the cutoff."""
    start = at(some_positions())
    assert follow(VerletList(1.0), [start, start, change(start)]) == [CUTOFF, CUTOFF]


def test_cell_of_a_slab() -> None:
    """Vectors along periodic axes count; the one along the open axis means nothing."""
    start = some_positions()
    other, wider = CELL.copy(), CELL.copy()
    other[2], wider[0] = [0.0, 0.0, 9.0], 1.01 * CELL[0]
    steps = [at(start, "slab"), at(start, "slab", other), at(start, "slab", wider)]
    assert follow(VerletList(1.0), steps) == [CUTOFF, CUTOFF]


def test_another_cutoff() -> None:
    places, kept = at(some_positions()), VerletList(1.0)
    kept.pairs(places, 2.0, brute_force(places))
    assert_right(kept.pairs(places, CUTOFF, brute_force(places)), places)


def test_places_that_change_in_place() -> None:
    """What is kept is not what was handed over."""
    positions = some_positions()
    places, kept = at(positions), VerletList(1.0)
    kept.pairs(places, CUTOFF, brute_force(places))
    positions += np.eye(6, 3)
    assert_right(kept.pairs(places, CUTOFF, brute_force(places)), places)
    assert kept.n_searches == 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(again: Callable[[VerletList], VerletList]) -> None:
    start, kept = some_positions(), VerletList(1.0)
    follow(kept, [at(start), at(start + 0.01)])
    other = again(kept)
    places = at(start + 0.02)
    assert_right(other.pairs(places, CUTOFF, brute_force(places)), places)
    assert (kept.n_searches, other.n_searches) == (2, 2)


def test_no_pairs() -> None:
    places = at(np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]), "open")
    for _ in range(3):
        found = VerletList().pairs(places, CUTOFF, brute_force(places))
        assert [each.shape for each in found] == [(0,), (0,), (0, 3), (0,)]


@pytest.mark.parametrize("skin", [-0.1, LARGEST_SKIN + 1, np.nan, np.inf, "1", True, None])
def test_bad_skin(skin: float) -> None:
    with pytest.raises(ValueError, match="`skin` must be a number from 0 to 10 A, got"):
        VerletList(skin)
