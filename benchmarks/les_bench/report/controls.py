"""``les bench headline --controls``: models with LES beside the controls of them, in small tables.

Like ``les_bench.report.headline`` it needs nothing but the ``result.json`` files.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from les_bench.report.headline import SOURCES
from les_bench.report.render import Table
from les_bench.report.summary import RESPONSE, TRAINING_TIME, Column, Group, Result, grouped
from les_bench.suite.results import ResultError, read_all

#: Marks in a page, each on a line of its own, between which the tables stand.
BEGIN = "<!-- the tables of `les bench headline --controls` begin -->"
END = "<!-- the tables of `les bench headline --controls` end -->"

#: What is told of models, where there is such a figure.
COLUMNS = (
    Column("force RMSE [meV/Å]", ("force_rmse",), 1),
    Column("energy RMSE [meV/atom]", ("energy_rmse",), 2),
    *(c for c in RESPONSE if c.path[0] in ("charges", "part_charge", "dipole", "quadrupole")),
    *(c for c in RESPONSE if c.path in (("bec", "r2"), ("bec", "rmse"))),
    Column("max. charge error [e]", ("charge_neutrality",), 2),
    TRAINING_TIME,
)


def control_headline(folder: Path) -> str:
    """A table in Markdown for each system and model that has controls.

    Args:
        folder: results of ``les bench run``, of which only the ``result.json`` count.

    Raises:
        ResultError: if there are no results, none of them are controls, one is truncated, or two
            are of one seed.
    """
    compared: dict[str, list[Group]] = {}
    for group in grouped(read_all(folder)):
        compared.setdefault(str(group.basis), []).append(group)
    parts = [
        f"{_title(groups[0])}\n\n{_table(groups).markdown()}"
        for _, groups in sorted(compared.items())
        if any(group.control and group.variant("les") for group in groups)
    ]
    if not parts:
        raise ResultError(f"{folder}: has no controls of models with LES")
    text = (
        "Means over seeds and their standard deviations; models of one table have the same data, "
        "split and budget. Errors of energies and forces are those on the test set, all others "
        "those on the first of the test, validation and response sets that has references."
    )
    return "\n\n".join([*parts, text])


def _title(group: Group) -> str:
    c = group.configuration
    source = SOURCES.get(c["source"], c["source"])
    epochs = "" if c["epochs"] is None else f", {c['epochs']} epochs"
    share = "" if group.fraction == 1 else f", {100 * group.fraction:g} % of the structures"
    return f"`{c['system']}` ({source}), {c['model']}{epochs}{share}:"


def _table(groups: list[Group]) -> Table:
    """One line for the model without LES, if there is one, and one for each with LES."""
    found: dict[tuple[str, str], dict[int, Result]] = {}
    # That without a control, and without options, is the first one.
    for group in sorted(groups, key=lambda group: (group.control, group.configuration["extra"])):
        for variant, which in (("sr", "without LES"), ("les", group.control or "with LES")):
            if variant == "sr" and group.control:
                continue
            runs, options = group.variant(variant), " ".join(group.configuration["extra"])
            line = found.setdefault((which, options), {})
            if twice := line.keys() & runs.keys():  # of two versions, say
                raise ResultError(f"{group.title}: there are two results of seed {min(twice)}")
            line.update(runs)
    lines = [(key, list(runs.values())) for key, runs in found.items() if runs]
    several = Counter(which for (which, _), _ in lines)
    everything = [run for _, runs in lines for run in runs]
    columns = [c for c in COLUMNS if any(c.value(run) is not None for run in everything)]
    rows = [
        [
            f"{which} ({options})" if options and several[which] > 1 else which,
            str(len(runs)),
            *(column.text(map(column.value, runs)) for column in columns),
        ]
        for (which, options), runs in lines
    ]
    return Table(["", "seeds", *(column.title for column in columns)], rows)
