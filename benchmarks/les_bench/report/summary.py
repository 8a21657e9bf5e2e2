"""Results of several runs, grouped into what can be compared."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from les.response.agreement import QUANTITIES, is_opposite

Result = Mapping[str, Any]


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
        return mean + (
            f" ± {statistics.stdev(numbers):.{self.digits}f}" if len(numbers) > 1 else ""
        )


ERRORS = (
    Column("energy MAE [meV/atom]", ("energy_mae",), 2),
    Column("energy RMSE [meV/atom]", ("energy_rmse",), 2),
    Column("force MAE [meV/Å]", ("force_mae",), 1),
    Column("force RMSE [meV/Å]", ("force_rmse",), 1),
)
RESPONSE = (
    Column("dipole R²", ("dipole", "r2"), 3),
    Column("dipole RMSE [e Å]", ("dipole", "rmse"), 3),
    Column("dipole best-fit scale", ("dipole", "scale"), 2),
    Column("quadrupole R²", ("quadrupole", "r2"), 3),
    Column("BEC R²", ("bec", "r2"), 3),
    Column("BEC RMSE [e]", ("bec", "rmse"), 3),
    Column("BEC best-fit scale", ("bec", "scale"), 2),
    Column("BEC R² with it", ("bec", "r2_scaled"), 3),
    Column("acoustic sum [e]", ("bec", "acoustic_sum"), 3),
    Column("of the reference [e]", ("bec", "acoustic_sum_reference"), 3),
    Column("max. charge error [e]", ("charge_neutrality",), 6),
)
EPOCH_TIME = Column("s/epoch", ("timing", "seconds_per_epoch"), 2, of_set=False)
COST = (
    EPOCH_TIME,
    Column("ms/structure", ("timing", "seconds_per_structure"), 1, scale=1000, of_set=False),
    Column("parameters", ("n_parameters",), 0, of_set=False),
)


def set_of(result: Result, name: str) -> str | None:
    """The set that a quantity is reported on: the first of these that has a reference."""
    sets = ("test", "valid", "response")
    return next((s for s in sets if name in result["metrics"].get(s, {})), None)


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed and variant only."""

    results: dict[Path, dict[str, Any]]

    @property
    def configuration(self) -> dict[str, Any]:
        """That of the first run; the same for all but for seed and variant."""
        return next(iter(self.results.values()))["configuration"]

    @property
    def title(self) -> str:
        """System, data source, model and budget."""
        c = self.configuration
        epochs = "epochs as configured" if c["epochs"] is None else f"{c['epochs']} epochs"
        return f"{c['system']} ({c['source']} data), {c['model']}, {epochs}"

    def variant(self, name: str) -> dict[int, dict[str, Any]]:
        """Results of one variant by seed."""
        chosen = [r for r in self.results.values() if r["configuration"]["variant"] == name]
        return {r["configuration"]["seed"]: r for r in chosen}

    def pairs(self, column: Column) -> list[tuple[float, float]]:
        """(short-range, LES) values of every seed that has both."""
        short, les = self.variant("sr"), self.variant("les")
        values = [(column.value(short[s]), column.value(les[s])) for s in sorted(short) if s in les]
        return [(a, b) for a, b in values if a is not None and b is not None]

    def difference(self, column: Column) -> str:
        """LES minus short-range of paired runs, with the relative change."""
        pairs = self.pairs(column)
        if not pairs:
            return "–"
        relative = statistics.mean(b for _, b in pairs) / statistics.mean(a for a, _ in pairs) - 1
        return f"{column.text([b - a for a, b in pairs])} ({relative:+.0%})"

    def ratio(self, column: Column) -> str:
        """LES over short-range of paired runs."""
        ratios = [b / a for a, b in self.pairs(column)]
        return Column("", (), 3).text(ratios)

    def wetting(self) -> list[list[str]]:
        """Rows (variant, doping, reference, predicted) of wetting differences in eV."""
        rows = []
        for variant in ("sr", "les"):
            found = [r["metrics"]["test"].get("wetting") for r in self.variant(variant).values()]
            found = [wetting for wetting in found if wetting]
            for doping in found[0]["reference"] if found else ():
                predicted = Column("", (), 3).text([w["predicted"][doping] for w in found])
                rows.append([variant, doping, f"{found[0]['reference'][doping]:.3f}", predicted])
        return rows

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
                if is_opposite(errors):
                    notes.append(
                        f"{result['name']}: {what} correlate negatively with the reference: with "
                        "the opposite sign of all charges they would agree better."
                    )
        for result in self.results.values():
            notes += [f"{result['name']}: {text}." for text in result.get("warnings", ())]
        if any(result["data"]["energy_offsets"] for result in self.results.values()):
            notes.append("Energies per element were taken off the total energies before training.")
        return notes


def grouped(results: Mapping[Path, dict[str, Any]]) -> list[Group]:
    """Groups of comparable results, in the order of their names."""
    groups: dict[str, dict[Path, dict[str, Any]]] = {}
    for folder, result in results.items():
        groups.setdefault(result["group"], {})[folder] = result
    return [Group(members) for members in groups.values()]
