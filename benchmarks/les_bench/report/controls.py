"""``les bench headline --controls``: models with LES beside the controls of them, in one table.

Like ``les_bench.report.headline`` it needs nothing but the ``result.json`` files.
"""

from __future__ import annotations

from pathlib import Path

from les_bench.report.headline import SOURCES
from les_bench.report.render import Table
from les_bench.report.summary import RESPONSE, Column, Group, grouped
from les_bench.suite.results import ResultError, read_all

#: Marks in a page, each on a line of its own, between which the table stands.
BEGIN = "<!-- the table of `les bench headline --controls` begins -->"
END = "<!-- the table of `les bench headline --controls` ends -->"

#: What is told of each group of models.
COLUMNS = (
    Column("force RMSE [meV/Å]", ("force_rmse",), 1),
    Column("energy RMSE [meV/atom]", ("energy_rmse",), 2),
    *(column for column in RESPONSE if column.path[0] in ("charges", "part_charge", "dipole")),
    Column("max. charge error [e]", ("charge_neutrality",), 2),
)


def control_headline(folder: Path) -> str:
    """The table in Markdown, and a sentence that says what it is.

    Args:
        folder: results of ``les bench run``.

    Raises:
        ResultError: if there are no results, none of them are controls, or one is truncated.
    """
    groups = [group for group in grouped(read_all(folder)) if group.variant("les")]
    compared = {_basis(group) for group in groups if group.control}
    groups = [group for group in groups if _basis(group) in compared]
    if not groups:
        raise ResultError(f"{folder}: has no controls of models with LES")
    groups.sort(key=lambda group: (_basis(group), group.control))
    runs = [run for group in groups for run in group.runs()]
    columns = [c for c in COLUMNS if any(c.value(run) is not None for run in runs)]
    rows = [_row(group, columns) for group in groups]
    header = ["system", "model", "which", "data", "epochs", "seeds", *(c.title for c in columns)]
    text = (
        "All models have LES. Errors on the test set, means over seeds and their standard "
        "deviations. Rows of one system and model have the same data, split and budget."
    )
    return f"{Table(header, rows).markdown()}\n\n{text}"


def _basis(group: Group) -> tuple[str, ...]:
    c = group.configuration
    return c["system"], c["source"], c["model"], str(c["epochs"]), str(group.fraction)


def _row(group: Group, columns: list[Column]) -> list[str]:
    c, runs = group.configuration, group.variant("les")
    epochs = "–" if c["epochs"] is None else str(c["epochs"])
    source = SOURCES.get(c["source"], c["source"])
    names = [c["system"], c["model"], group.control or "as it is", source, epochs, str(len(runs))]
    return names + [column.text(map(column.value, runs.values())) for column in columns]
