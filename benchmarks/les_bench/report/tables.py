"""The tables of a report: what is compared, with what outcome, made from results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from les_bench.report.pairs import Difference, difference
from les_bench.report.render import Cell, Table
from les_bench.report.summary import (
    EPOCH_TIME,
    RESPONSE,
    STRUCTURE_TIME,
    TRAINING_TIME,
    Column,
    Group,
)

#: Quantity -> title with unit, digits.
ERRORS = {
    "force": ("force RMSE [meV/Å]", 1),
    "energy": ("energy RMSE [meV/atom]", 2),
    "stress": ("stress RMSE [meV/Å³]", 2),
}
#: The same and others as columns of single runs.
SET_ERRORS = (
    Column("energy MAE [meV/atom]", ("energy_mae",), 2),
    Column("energy RMSE [meV/atom]", ("energy_rmse",), 2),
    Column("force MAE [meV/Å]", ("force_mae",), 1),
    Column("force RMSE [meV/Å]", ("force_rmse",), 1),
    Column("stress RMSE [meV/Å³]", ("stress_rmse",), 2),
)
DASH = "–"


def number(value: float, digits: int) -> str:
    """A number with a true minus sign, and fewer decimals where it is large."""
    digits = max(0, min(digits, 2 - int(math.log10(abs(value))))) if abs(value) >= 1 else digits
    return f"{value:.{digits}f}".replace("-", "−")


def change(difference: Difference | None, digits: int, *, expected: bool = True) -> Cell:
    """A paired difference with its interval; noise is not given as a number.

    Without a reason for one, ``expected``, a difference is a warning whatever its sign.
    """
    if difference is None:
        return Cell(DASH)
    interval = f"{number(difference.low, digits)} … {number(difference.high, digits)}"
    known = difference.low == difference.low  # not nan
    if difference.verdict == "none":
        return Cell(f"none shown ({interval})" if known else "none shown", "none")
    relative = f"{100 * difference.value / difference.short_range:+.0f} %".replace("-", "−")
    text = f"{number(difference.value, digits)} ({interval}), {relative}"
    if not expected:
        return Cell(f"{text}: a warning", "higher")
    return Cell(text, difference.verdict)


def main_table(groups: Sequence[Group]) -> Table:
    """What a reader wants to know first: one line for each pair of models."""
    header = ["", "seeds"]
    for quantity in ("force", "energy"):
        title = ERRORS[quantity][0]
        header += [f"{title}, short-range", "LES", "difference (95 %)"]
    header += ["dipole R²", "BEC R²", "time ratio"]
    rows: list[list[str | Cell]] = []
    for group in groups:
        if group.control:
            continue
        row: list[str | Cell] = [group.short_title, str(len(group.paired_seeds) or DASH)]
        for quantity in ("force", "energy"):
            digits = ERRORS[quantity][1]
            found = group.paired(quantity)
            if found is None:
                row += [group.mean_error(quantity, v, digits) for v in ("sr", "les")] + [DASH]
            else:
                row += [number(x, digits) for x in (found.short_range, found.les)]
                row.append(change(found, digits, expected=group.electrostatic))
        row += [group.response("dipole", "r2", 2), group.response("bec", "r2", 2)]
        row.append(group.ratio(EPOCH_TIME, 2))
        rows.append(row)
    return Table(header, rows)


def error_table(groups: Sequence[Group]) -> Table:
    """All errors, without and with LES."""
    rows: list[list[str | Cell]] = []
    for group in groups:
        for quantity, (title, digits) in ERRORS.items():
            found = group.paired(quantity)
            if found is not None:
                rows.append(
                    [
                        group.short_title,
                        title,
                        number(found.short_range, digits),
                        number(found.les, digits),
                        change(found, digits, expected=group.electrostatic),
                        str(found.n_seeds),
                        f"{found.n_units} {found.unit}",
                    ]
                )
    header = ["", "error", "short-range", "LES", "difference (95 %)", "seeds", "drawn again"]
    return Table(header, rows)


def response_table(groups: Sequence[Group]) -> Table:
    """What follows from the charges, none of which was trained on."""
    columns = [c for c in RESPONSE if any(c.value(r) is not None for g in groups for r in g.runs())]
    rows = []
    for group in groups:
        runs = group.variant("les").values()
        texts = [column.text(map(column.value, runs)) for column in columns]
        if any(text != DASH for text in texts):
            rows.append([group.short_title, *texts])
    return Table(["", *(column.title for column in columns)], rows)


def control_table(groups: Sequence[Group]) -> Table:
    """LES against models that are to show what else could make the difference."""
    rows: list[list[str | Cell]] = []
    title, digits = ERRORS["force"]
    for base in groups:
        controls = [g for g in groups if g.control and g.basis == base.basis]
        if base.control or not controls:
            continue
        others = [("sr", "the same without charges", base)]
        for group in controls:
            others += [("sr", group.control, group), ("les", f"{group.control}, LES", group)]
        for variant, which, group in others:
            seeds = sorted(base.variant("les").keys() & group.variant(variant).keys())
            both = [(group.predictions[variant, s], base.predictions["les", s]) for s in seeds]
            found = difference(both, "force")
            if found is not None:
                errors = [number(x, digits) for x in (found.short_range, found.les)]
                runs = group.variant(variant).values()
                parameters = COST[-1].text(map(COST[-1].value, runs))
                rows.append([base.short_title, which, parameters, *errors, change(found, digits)])
    header = ["", "other model", "parameters", f"its {title}", "LES", "LES less it (95 %)"]
    return Table(header, rows)


def distance_table(groups: Sequence[Group]) -> Table:
    """Force errors of scans, within the distances that were trained on and beyond them."""
    rows: list[list[str | Cell]] = []
    title, digits = ERRORS["force"]
    for group in groups:
        trained = group.largest_distance
        if trained is None:
            continue
        for where in ("within", "beyond"):
            found = group.paired("force", within=(where, trained))
            if found is not None:
                errors = [number(x, digits) for x in (found.short_range, found.les)]
                place = f"{where} {trained:g} Å"
                rows.append([group.short_title, place, *errors, change(found, digits)])
    return Table(["", "", f"{title}, short-range", "LES", "difference (95 %)"], rows)


def wetting_table(groups: Sequence[Group]) -> Table:
    """E(wetting) - E(non-wetting) on slabs, and what a dopant far below changes."""
    rows: list[list[str]] = []
    for group in groups:
        for variant in ("sr", "les"):
            found = [r["metrics"]["test"].get("wetting") for r in group.variant(variant).values()]
            found = [wetting for wetting in found if wetting]
            if not found:
                continue
            if not rows or rows[-1][0] != group.short_title:
                rows.append([group.short_title, "reference", *_wetting([found[0]["reference"]])])
            predicted = [wetting["predicted"] for wetting in found]
            name = {"sr": "short-range", "les": "LES"}[variant]
            rows.append([group.short_title, name, *_wetting(predicted)])
    header = ["E(wetting) − E(non-wetting) [eV]", "", "undoped", "doped", "change by doping"]
    return Table(header, rows)


def _wetting(found: Sequence[dict[str, float]]) -> list[str]:
    both = [x for x in found if {"doped", "undoped"} <= x.keys()]
    values = [
        [x["undoped"] for x in found if "undoped" in x],
        [x["doped"] for x in found if "doped" in x],
        [x["doped"] - x["undoped"] for x in both],
    ]
    return [Column("", (), 3).text(each) for each in values]


def fraction_table(groups: Sequence[Group]) -> Table:
    """Force errors by the share of the training set, where there are several shares."""
    by_kind: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        by_kind.setdefault(group.kind, []).append(group)
    rows: list[list[str | Cell]] = []
    title, digits = ERRORS["force"]
    for members in by_kind.values():
        if len({group.fraction for group in members}) < 2:
            continue
        for group in sorted(members, key=lambda g: g.fraction):
            found = group.paired("force")
            if found is not None:
                rows.append(
                    [
                        " ".join(group.kind[:3:2]),
                        f"{100 * group.fraction:g} %",
                        str(group.configuration["n_structures"]["train"]),
                        number(found.short_range, digits),
                        number(found.les, digits),
                        change(found, digits),
                    ]
                )
    header = ["", "of the training set", "frames", f"{title}, short-range", "LES"]
    return Table([*header, "difference (95 %)"], rows)


def cost_table(groups: Sequence[Group]) -> Table:
    """Times, memory and parameters."""
    rows = []
    for group in groups:
        for variant, name in (("sr", "short-range"), ("les", "LES")):
            runs = list(group.variant(variant).values())
            if runs:
                texts = [column.text(map(column.value, runs)) for column in COST]
                jobs = {run["machine"].get("jobs", 1) for run in runs}
                rows.append([group.short_title, name, *texts, ", ".join(map(str, sorted(jobs)))])
        if group.paired_seeds:
            ratios = [group.ratio(column, 2) for column in COST]
            rows.append([group.short_title, "ratio", *ratios, ""])
    return Table(["", "", *(column.title for column in COST), "at the same time"], rows)


COST = (
    EPOCH_TIME,
    STRUCTURE_TIME,
    TRAINING_TIME,
    Column("peak memory of training [MiB]", ("timing", "training_peak_mib"), 0, of_set=False),
    Column("parameters", ("n_parameters",), 0, of_set=False),
)


#: Checks of ``les_bench.suite.consistency``, and their titles.
CHECKS = {
    "rotation": "rotated [meV/Å]",
    "translation": "moved [meV/Å]",
    "permutation": "other order [meV/Å]",
    "supercell": "supercell [meV/Å]",
    "huge_box": "in a huge box [meV/Å]",
    "force": "forces − slopes [meV/Å]",
    "stress": "stress − slope [meV/Å³]",
}


def consistency_table(groups: Sequence[Group]) -> Table:
    """What would be zero without rounding, the largest of all seeds of a model."""
    rows = []
    for group in groups:
        for variant, name in (("sr", "short-range"), ("les", "LES")):
            found = [run.get("consistency", {}) for run in group.variant(variant).values()]
            if any(found):
                largest = [max((x[key] for x in found if key in x), default=None) for key in CHECKS]
                texts = [DASH if x is None else f"{x:.0e}".replace("-", "−") for x in largest]
                rows.append([group.short_title, name, *texts])
    return Table(["", "", *CHECKS.values()], rows)


def learning_table(groups: Sequence[Group], budget: float = 0.25) -> Table:
    """How early the gain is there: shares of the final improvement at a part of the budget."""
    rows = []
    for group in groups:
        shares = group.shares(budget)
        early = group.early_r2(budget)
        if not shares and not early:
            continue
        known = [share for share in shares.values() if share is not None]
        rows.append(
            [
                group.short_title,
                f"{len(known)} of {len(shares)}",
                f"{100 * statistics.mean(known):.0f} %" if known else DASH,
                number(statistics.mean(a for a, _ in early), 2) if early else DASH,
                number(statistics.mean(b for _, b in early), 2) if early else DASH,
            ]
        )
    header = ["", "pairs that improve", f"share of the improvement at {100 * budget:g} %"]
    header += [f"dipole R² at {100 * budget:g} % (validation)", "in the end"]
    return Table(header, rows)
