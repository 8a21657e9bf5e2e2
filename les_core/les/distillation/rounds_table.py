"""What rounds of active learning have come to, as a table, and why they ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from les.distillation.rounds import Round
from les.distillation.settings import RoundSettings
from les.tables import aligned, number_text


def verdict(found: dict[str, Any], rounds: RoundSettings) -> str:
    """Why rounds end after an exploration that has chosen no frame."""
    found_nothing = (
        f"no spread of {found['n_frames']} frames is above {rounds.spread:g} eV/A (largest: "
        f"{found['largest_spread']:.3g})"
    )
    if found["ended_early"]:
        return f"{found_nothing}, but trajectories ended early: {found['ended_early'][0]}"
    return f"the committee agrees: {found_nothing}"


def summary(rows: list[dict[str, Any]], ending: str) -> str:
    """A table of rounds, a line for each, and why they ended."""
    table = [
        [
            "round", "frames", "above the bar", "largest spread [eV/A]", "labelled",
            "forces before, on these", "trained on", "forces, test [meV/A]",
            "energy, test [meV/atom]",
        ]
    ]  # fmt: skip
    for row in rows:
        found = row.get("exploration", {})
        before = row.get("errors_before_on_new")
        table.append(
            [
                str(row["round"]),
                *(number_text(found.get(key)) for key in ("n_frames", "n_above", "largest_spread")),
                number_text(row.get("n_labelled")),
                _error(before, "forces"),
                str(row["n_train"]),
                _error(row["errors"], "forces"),
                _error(row["errors"], "energy"),
            ]
        )
    return f"{aligned(table)}\n(root mean square errors)\n{ending}"


def _error(errors: dict[str, Any] | None, label: str) -> str:
    return "-" if not errors or label not in errors else f"{1000.0 * errors[label]['rmse']:.3g}"


def rows_of(last: Round) -> Iterator[dict[str, Any]]:
    """What the table says, of the training before the first round and of all up to ``last``."""
    for number in range(last.number + 1):
        yield replace(last, number=number).table_row
