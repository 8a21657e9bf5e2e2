"""Paired differences, LES minus short-range, and how sure they are.

Two models of a pair have the same data, split, seed and budget. A difference is the mean over
seeds; its 95 % interval comes from drawing seeds and molecules (or trajectories) again, with
replacement, many times. Frames of one molecule are no independent witnesses, so they are drawn
together. An interval from one seed says nothing about another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Draws of seeds and units.
N_DRAWS = 2000
#: Units below which an interval would say nothing.
MIN_UNITS = 3


class Sums(NamedTuple):
    """Squared errors of one model, summed over each unit.

    Attributes:
        squared: ``[n_units]`` sums of squared errors.
        counts: ``[n_units]`` numbers of values.
    """

    squared: Array
    counts: Array

    def rmse(self, weights: Array | None = None) -> Array:
        """Root mean square error; with ``weights [..., n_units]`` that of each draw."""
        if weights is None:
            return np.sqrt(self.squared.sum() / self.counts.sum())
        return np.sqrt((weights @ self.squared) / (weights @ self.counts))


class Difference(NamedTuple):
    """LES minus short-range, in the unit of the errors.

    Attributes:
        short_range, les: root mean square errors, means over seeds.
        value: the difference.
        low, high: ends of the 95 % interval; ``nan`` where there are too few units.
        n_seeds, n_units: seeds, and molecules or trajectories.
        unit: what the units are.
        agree: whether the difference has the same sign with every seed.
    """

    short_range: float
    les: float
    value: float
    low: float
    high: float
    n_seeds: int
    n_units: int
    unit: str
    agree: bool

    @property
    def verdict(self) -> str:
        """``lower``, ``higher``, or ``none`` where the interval has 0 in it or seeds disagree."""
        if not (self.agree and (self.low > 0 or self.high < 0)):
            return "none"
        return "lower" if self.value < 0 else "higher"


#: Quantity -> names of prediction and reference in the predictions of a set, and a scale.
QUANTITIES: dict[str, tuple[str, str, float]] = {
    "energy": ("energy", "energy_ref", 1000.0),
    "force": ("forces", "forces_ref", 1000.0),
    "stress": ("stress", "stress_ref", 1000.0),
}


def unit_of(data: Mapping[str, Array]) -> tuple[str, Array]:
    """What is drawn again, and the unit ``[n_structures]`` of each structure.

    Frames are units of their own where all of them belong to one molecule or trajectory.
    """
    n = len(data["n_atoms"])
    names = data.get("unit")
    if names is not None and len(np.unique(names)) >= MIN_UNITS:
        return "molecules or trajectories", np.unique(names, return_inverse=True)[1]
    return "frames", np.arange(n)


def sums(data: Mapping[str, Array], quantity: str, units: Array) -> Sums | None:
    """Squared errors of a quantity by unit; ``None`` where it is missing."""
    predicted, reference, scale = QUANTITIES[quantity]
    if predicted not in data or reference not in data:
        return None
    errors = scale * (np.asarray(data[predicted], float) - np.asarray(data[reference], float))
    if quantity == "energy":
        errors = errors / data["n_atoms"]
    squares = np.square(errors).reshape(len(errors), -1)
    of_row = units
    if len(squares) != len(units):  # rows are atoms
        sizes = np.asarray(data["n_atoms"], int)
        if sizes.sum() != len(squares):  # only some structures have a reference
            return None
        of_row = np.repeat(units, sizes)
    n_units = int(units.max()) + 1
    return Sums(
        np.bincount(of_row, squares.sum(axis=1), n_units),
        np.bincount(of_row, np.full(len(squares), squares.shape[1], float), n_units),
    )


def selected(data: Mapping[str, Array], chosen: Array) -> dict[str, Array]:
    """Energies and forces of the structures that ``chosen [n_structures]`` says."""
    atoms = np.repeat(chosen, np.asarray(data["n_atoms"], int))
    found = {name: data[name][chosen] for name in ("n_atoms", "unit", "energy", "energy_ref")}
    return {**found, **{name: data[name][atoms] for name in ("forces", "forces_ref")}}


def difference(
    pairs: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]], quantity: str
) -> Difference | None:
    """The paired difference of one quantity.

    Args:
        pairs: of each seed, the predictions of the short-range model and of that with LES on the
            same structures, as ``evaluate`` returned them.
        quantity: one of :data:`QUANTITIES`.
    """
    if not pairs:
        return None
    unit, units = unit_of(pairs[0][0])
    found = []
    for short, les in pairs:
        both = sums(short, quantity, units), sums(les, quantity, units)
        if both[0] is None or both[1] is None:
            return None
        found.append((both[0], both[1]))
    errors = np.array([[float(a.rmse()), float(b.rmse())] for a, b in found])
    each = errors[:, 1] - errors[:, 0]
    low, high = _interval(found)
    short_range, with_les = errors.mean(axis=0)
    return Difference(
        float(short_range),
        float(with_les),
        float(each.mean()),
        low,
        high,
        len(found),
        len(np.unique(units)),
        unit,
        bool(np.all(each < 0) or np.all(each > 0)),
    )


def _interval(found: Sequence[tuple[Sums, Sums]]) -> tuple[float, float]:
    """Ends of the 95 % interval of the mean difference over seeds."""
    n_units, n_seeds = len(found[0][0].counts), len(found)
    if n_units < MIN_UNITS:
        return float("nan"), float("nan")
    generator = np.random.default_rng(0)  # the same results give the same page
    weights = generator.multinomial(n_units, np.full(n_units, 1 / n_units), N_DRAWS).astype(float)
    by_seed = np.stack([b.rmse(weights) - a.rmse(weights) for a, b in found])
    drawn = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_DRAWS)
    means = np.einsum("ds,sd->d", drawn, by_seed) / n_seeds
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def share_at(
    short: Sequence[Mapping[str, Any]],
    les: Sequence[Mapping[str, Any]],
    *,
    budget: float = 0.25,
    key: str = "valid_force_rmse",
) -> float | None:
    """Share of the final relative improvement that is reached at a part of the budget.

    The improvement is one minus the ratio of the lowest validation errors so far, with LES over
    short-range.

    Args:
        short, les: learning curves of a pair.
        budget: part of the epochs.
        key: the error.

    Returns:
        The share, which may be above one; ``None`` if there is no improvement in the end, or the
        curves do not have the error.
    """
    improvement = []
    for part in (budget, 1.0):
        lowest = [_lowest(curve, key, part) for curve in (short, les)]
        if lowest[0] is None or lowest[1] is None or lowest[0] == 0:
            return None
        improvement.append(1 - lowest[1] / lowest[0])
    return improvement[0] / improvement[1] if improvement[1] > 0 else None


def r2_at(
    history: Sequence[Mapping[str, Any]], variance: float, *, budget: float = 0.25
) -> tuple[float, float] | None:
    """R2 of dipoles on the validation set at a part of the budget, and in the end.

    Args:
        history: a learning curve with ``valid_dipole_rmse`` [e A].
        variance: of the reference's components [e^2 A^2].
        budget: part of the epochs.
    """
    found = [_last(history, "valid_dipole_rmse", part) for part in (budget, 1.0)]
    if found[0] is None or found[1] is None or not variance > 0:
        return None
    return 1 - found[0] ** 2 / variance, 1 - found[1] ** 2 / variance


def _values(curve: Sequence[Mapping[str, Any]], key: str, part: float) -> list[float]:
    n = max(1, round(part * len(curve)))
    return [record[key] for record in curve[:n] if record.get(key) is not None]


def _lowest(curve: Sequence[Mapping[str, Any]], key: str, part: float) -> float | None:
    return min(_values(curve, key, part), default=None)


def _last(curve: Sequence[Mapping[str, Any]], key: str, part: float) -> float | None:
    values = _values(curve, key, part)
    return values[-1] if values else None
