"""Paired differences: their values and intervals, noise, and how early a gain is there."""

from __future__ import annotations

import numpy as np
import pytest

from les_bench.report.pairs import difference, r2_at, share_at, unit_of
from les_bench.report.tables import change


def predictions(errors: np.ndarray, units: list[str]) -> dict[str, np.ndarray]:
    """Predictions whose force errors are ``errors [n_structures, n_atoms, 3]`` [eV/A]."""
    n, n_atoms, _ = errors.shape
    return {
        "n_atoms": np.full(n, n_atoms),
        "unit": np.array(units),
        "forces": errors.reshape(-1, 3),
        "forces_ref": np.zeros((n * n_atoms, 3)),
        "energy": errors.sum(axis=(1, 2)),
        "energy_ref": np.zeros(n),
    }


@pytest.fixture
def noise():
    """Errors of ten molecules with four frames each; a seed and a size make them."""
    units = [f"m{i // 4}" for i in range(40)]

    def make(seed: int, size: float = 0.1) -> dict[str, np.ndarray]:
        errors = size * np.random.default_rng(seed).normal(size=(40, 5, 3))
        return predictions(errors, units)

    return make


def test_value_of_a_difference(noise) -> None:
    pairs = [(noise(0), noise(1, 0.05)), (noise(2), noise(3, 0.05))]
    found = difference(pairs, "force")

    def rmse(data: dict) -> float:
        return 1000 * np.sqrt(np.mean(data["forces"] ** 2))

    expected = np.mean([rmse(b) - rmse(a) for a, b in pairs])
    assert found.value == pytest.approx(expected)
    assert found.les - found.short_range == pytest.approx(expected)
    assert (found.n_seeds, found.n_units, found.agree) == (2, 10, True)
    assert found.low < found.value < found.high < 0
    assert found.verdict == "lower"
    assert found == difference(pairs, "force")  # the same results give the same page
    energies = difference(pairs, "energy")
    per_atom = 1000 * pairs[0][0]["energy"] / 5
    assert np.sqrt(np.mean(per_atom**2)) == pytest.approx(
        difference(pairs[:1], "energy").short_range
    )
    assert energies.unit == "molecules or trajectories"
    assert difference(pairs, "stress") is None
    assert difference([], "force") is None


def test_noise_is_no_difference(noise) -> None:
    found = difference([(noise(0), noise(1))], "force")
    assert found.low < 0 < found.high
    assert found.verdict == "none"
    assert change(found, 1).text.startswith("none shown (")
    assert change(found, 1).kind == "none"


def test_seeds_that_disagree_show_nothing(noise) -> None:
    found = difference([(noise(0), noise(1, 0.02)), (noise(2), noise(3, 0.101))], "force")
    assert not found.agree
    assert found.verdict == "none"


def test_frames_of_one_molecule_are_no_witnesses() -> None:
    """One of five molecules decides: over frames that is sure, over molecules it is not."""
    units = [f"m{i // 20}" for i in range(100)]
    short = np.full((100, 2, 3), 0.1)
    les = np.full((100, 2, 3), 0.1)
    les[:20] = 0.02
    pair = predictions(short, units), predictions(les, units)
    over_molecules = difference([pair], "force")
    alone = [f"m{i}" for i in range(100)]
    over_frames = difference([(predictions(short, alone), predictions(les, alone))], "force")
    assert over_molecules.value == pytest.approx(over_frames.value)
    assert over_molecules.high == pytest.approx(0.0)  # it may not be among those drawn
    assert over_molecules.verdict == "none"
    assert over_frames.verdict == "lower"
    width = over_frames.high - over_frames.low
    assert over_molecules.high - over_molecules.low > 2 * width


def test_coverage_of_the_interval(noise) -> None:
    """Nineteen of twenty intervals have the true difference, which is 0, in them."""
    inside = 0
    for seed in range(60):
        found = difference([(noise(2 * seed + 100), noise(2 * seed + 101))], "force")
        inside += found.low <= 0 <= found.high
    assert 50 <= inside <= 60  # 57 expected; intervals from ten molecules are a little narrow


def test_what_is_drawn_again() -> None:
    data = {"n_atoms": np.ones(4), "unit": np.array(["a", "b", "a", "c"])}
    name, units = unit_of(data)
    assert name == "molecules or trajectories"
    assert units.tolist() == [0, 1, 0, 2]
    name, units = unit_of({**data, "unit": np.array(["a", "a", "a", "a"])})
    assert name == "frames"
    assert units.tolist() == [0, 1, 2, 3]
    assert unit_of({"n_atoms": np.ones(2)})[0] == "frames"


def curve(*errors: float, key: str = "valid_force_rmse") -> list[dict]:
    return [{"epoch": i, key: error} for i, error in enumerate(errors)]


def test_share_of_the_improvement() -> None:
    short = curve(4, 4, 2, 2, 2, 2, 2, 2)
    # Relative improvement 25 % after two of eight epochs, and 50 % in the end.
    assert share_at(short, curve(3, 5, 2, 1, 1, 1, 1, 1)) == pytest.approx(0.5)
    assert share_at(short, short) is None
    assert share_at(short, curve(9, 9, 9, 9, 9, 9, 9, 9)) is None
    assert share_at(short, curve(1, 1, key="other")) is None
    assert share_at(short, []) is None


def test_early_dipoles() -> None:
    history = curve(2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, key="valid_dipole_rmse")
    assert r2_at(history, 4.0) == pytest.approx((0.75, 1.0))
    assert r2_at(history, 0.0) is None
    assert r2_at([], 4.0) is None
