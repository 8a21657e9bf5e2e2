"""Results of several runs, grouped into what can be compared."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from les.response.agreement import QUANTITIES, is_opposite
from les_bench.report.pairs import Difference, difference, r2_at, selected, share_at
from les_bench.suite.results import PREDICTIONS, read_predictions

Result = Mapping[str, Any]

#: Gain in R2 by the opposite sign below which nothing is said: it is noise.
NOTABLE = 0.05


@dataclass(frozen=True)
class Column:
    """One number of a result: how it is called, found and written."""

    title: str
    path: tuple[str, ...]
    digits: int
    scale: float = 1.0
    #: Whether it is one of the numbers of an evaluated set.
    of_set: bool = True

    def value(self, result: Result) -> float | None:
        """The number, or ``None``; of the set that :func:`set_of` says."""
        place: Any = result
        if self.of_set:
            place = result["metrics"].get(set_of(result, self.path[0]))
        for key in self.path:
            place = place.get(key) if isinstance(place, Mapping) else None
        return None if place is None else float(place) * self.scale

    def text(self, values: Iterable[float | None]) -> str:
        """Mean +- standard deviation, the value alone, or a dash."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return "–"
        mean = f"{statistics.mean(numbers):.{self.digits}f}"
        if len(numbers) == 1 or (self.digits == 0 and len(set(numbers)) == 1):
            return mean  # counts that are the same have no deviation
        return f"{mean} ± {statistics.stdev(numbers):.{self.digits}f}"


RESPONSE = (
    Column("charges R²", ("charges", "r2"), 3),
    Column("charges RMSE [e]", ("charges", "rmse"), 3),
    Column("best-fit scale", ("charges", "scale"), 2),
    Column("charge of the part [e]", ("part_charge", "mean"), 2),
    Column("of the reference [e]", ("part_charge", "reference"), 2),
    Column("dipole R²", ("dipole", "r2"), 3),
    Column("dipole RMSE [e Å]", ("dipole", "rmse"), 3),
    Column("best-fit scale", ("dipole", "scale"), 2),
    Column("quadrupole R²", ("quadrupole", "r2"), 3),
    Column("BEC R²", ("bec", "r2"), 3),
    Column("BEC RMSE [e]", ("bec", "rmse"), 3),
    Column("best-fit scale", ("bec", "scale"), 2),
    Column("R² with it", ("bec", "r2_scaled"), 3),
    Column("acoustic sum [e]", ("bec", "acoustic_sum"), 3),
    Column("of the reference [e]", ("bec", "acoustic_sum_reference"), 3),
    Column("max. charge error [e]", ("charge_neutrality",), 6),
)
EPOCH_TIME = Column("s/epoch", ("timing", "seconds_per_epoch"), 2, of_set=False)
#: Of the whole training process, which the load of the machine hardly changes.
TRAINING_TIME = Column(
    "training [processor s]", ("timing", "training_processor_s"), 0, of_set=False
)
STRUCTURE_TIME = Column(
    "ms/structure", ("timing", "seconds_per_structure"), 1, scale=1000, of_set=False
)


def set_of(result: Result, name: str) -> str | None:
    """The set that a quantity is reported on: the first of these that has a reference."""
    sets = ("test", "valid", "response")
    return next((s for s in sets if name in result["metrics"].get(s, {})), None)


def gain_of_opposite_sign(figures: Mapping[str, float | None]) -> float:
    """What R2 would gain if the sign of all results were the opposite.

    Args:
        figures: ``scale``, ``r2`` and ``r2_scaled`` of results x and references y, with variance V.
    """
    scale, r2, scaled = (figures.get(name) for name in ("scale", "r2", "r2_scaled"))
    if scale is None or r2 is None or scaled is None or scale == 1:
        return 0.0
    square = (scaled - r2) / (1 - scale) ** 2  # sum x^2 / V
    return -4 * scale * square  # sum x y = scale sum x^2


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed and variant only."""

    results: dict[Path, dict[str, Any]]

    @property
    def configuration(self) -> dict[str, Any]:
        """That of the first run; the same for all but for seed and variant."""
        return next(iter(self.results.values()))["configuration"]

    @property
    def control(self) -> str:
        """What these models are a control of; empty for others."""
        return str(self.configuration.get("control", ""))

    @property
    def electrostatic(self) -> bool:
        """Whether LES can have a reason to help."""
        return bool(self.runs()[0]["data"].get("electrostatic", True))

    @property
    def basis(self) -> tuple[Any, ...]:
        """What a control has in common with the models that it is a control of."""
        return *self.kind[:5], self.fraction

    @property
    def kind(self) -> tuple[str, ...]:
        """What groups have in common that differ in the share of the training set only."""
        c = self.configuration
        extra = " ".join(c["extra"])
        return c["system"], c["source"], c["model"], str(c["epochs"]), c["config_file"], extra

    @property
    def fraction(self) -> float:
        """Share of the training set."""
        return float(self.configuration.get("fraction", 1.0))

    @property
    def short_title(self) -> str:
        """System and model, and the share of the training set if it is not all of it."""
        c = self.configuration
        share = "" if self.fraction == 1 else f" ({100 * self.fraction:g} %)"
        return f"{c['system']} {c['model']}{share}{self.control and f', {self.control}'}"

    @property
    def title(self) -> str:
        """System, data source, model and budget."""
        c = self.configuration
        epochs = "epochs as configured" if c["epochs"] is None else f"{c['epochs']} epochs"
        share = "" if self.fraction == 1 else f", {100 * self.fraction:g} % of the training set"
        which = self.control and f", {self.control}"
        return f"{c['system']} ({c['source']} data), {c['model']}{which}, {epochs}{share}"

    def runs(self) -> list[dict[str, Any]]:
        """All results."""
        return list(self.results.values())

    def variant(self, name: str) -> dict[int, dict[str, Any]]:
        """Results of one variant by seed."""
        chosen = [r for r in self.results.values() if r["configuration"]["variant"] == name]
        return {r["configuration"]["seed"]: r for r in chosen}

    @property
    def paired_seeds(self) -> list[int]:
        """Seeds that have both variants."""
        return sorted(self.variant("sr").keys() & self.variant("les").keys())

    @cached_property
    def predictions(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Variant and seed -> predictions on the test set."""
        found = {}
        for folder, result in self.results.items():
            c = result["configuration"]
            sets = read_predictions(folder / PREDICTIONS)
            found[c["variant"], c["seed"]] = sets["test"]
        return found

    @property
    def largest_distance(self) -> float | None:
        """The largest distance of a scan that was trained on [A]; ``None`` without any."""
        found: float | None = self.runs()[0]["data"].get("largest_distance")
        return found

    def paired(self, quantity: str, within: tuple[str, float] | None = None) -> Difference | None:
        """The paired difference of a quantity of ``pairs.QUANTITIES`` on the test set.

        Args:
            quantity: its name.
            within: ``("within", d)`` or ``("beyond", d)``: structures of scans up to the distance
                d [A], or farther than it.
        """
        both = []
        for seed in self.paired_seeds:
            short, les = (self.predictions[variant, seed] for variant in ("sr", "les"))
            if within is not None:
                where, distance = within
                known = np.asarray(short["distance"]) if "distance" in short else np.array([])
                chosen = known <= distance + 1e-9 if where == "within" else known > distance + 1e-9
                if not chosen.any():
                    return None
                short, les = (selected(data, chosen) for data in (short, les))
            both.append((short, les))
        return difference(both, quantity)

    def mean_error(self, quantity: str, variant: str, digits: int) -> str:
        """The error of a variant that has no partner."""
        column = Column("", (f"{quantity}_rmse",), digits)
        return column.text([column.value(run) for run in self.variant(variant).values()])

    def response(self, name: str, figure: str, digits: int) -> str:
        """A figure of merit of models with LES."""
        column = Column("", (name, figure), digits)
        return column.text([column.value(run) for run in self.variant("les").values()])

    def ratio(self, column: Column, digits: int) -> str:
        """LES over short-range of paired runs."""
        short, les = self.variant("sr"), self.variant("les")
        values = [(column.value(short[s]), column.value(les[s])) for s in self.paired_seeds]
        ratios = [b / a for a, b in values if a and b is not None]
        return Column("", (), digits).text(ratios)

    def shares(self, budget: float) -> dict[int, float | None]:
        """Seed -> share of the final improvement of forces at a part of the budget."""
        short, les = self.variant("sr"), self.variant("les")
        return {
            s: share_at(short[s]["history"], les[s]["history"], budget=budget)
            for s in self.paired_seeds
        }

    def early_r2(self, budget: float) -> list[tuple[float, float]]:
        """R2 of dipoles at a part of the budget and in the end, where the histories have them."""
        found = []
        for folder, result in self.results.items():
            if not trained_on(result, "dipole"):
                continue
            reference = read_predictions(folder / PREDICTIONS)["valid"].get("dipole_ref")
            if reference is not None:
                both = r2_at(result["history"], float(reference.var()), budget=budget)
                found += [both] if both is not None else []
        return found

    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        notes = []
        for name, quantity in QUANTITIES.items():
            what = quantity.title.capitalize()
            for result in self.variant("les").values():
                split = set_of(result, name)
                if split is None:
                    continue
                errors = result["metrics"][split][name]
                text = f"{what} are compared on the {split} set, with the calculator's charge sign."
                if text not in notes:
                    notes.append(text)
                if is_opposite(errors) and gain_of_opposite_sign(errors) > NOTABLE:
                    notes.append(
                        f"{result['name']}: {what} correlate negatively with the reference: with "
                        "the opposite sign of all charges they would agree better."
                    )
        for result in self.results.values():
            notes += [f"{result['name']}: {text}." for text in result.get("warnings", ())]
        if any(result["data"]["energy_offsets"] for result in self.results.values()):
            notes.append("Energies per element were taken off the total energies before training.")
        return notes


def trained_on(result: Mapping[str, Any], name: str) -> bool:
    """Whether a training followed its errors of ``name``, ``"dipole"`` or ``"bec"``."""
    return any(record.get(f"valid_{name}_rmse") is not None for record in result["history"])


def grouped(results: Mapping[Path, dict[str, Any]]) -> list[Group]:
    """Groups of comparable results, in the order of their names."""
    groups: dict[str, dict[Path, dict[str, Any]]] = {}
    for folder, result in results.items():
        groups.setdefault(result["group"], {})[folder] = result
    return [Group(members) for members in groups.values()]
