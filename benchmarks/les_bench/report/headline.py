"""``les bench headline``: all pairs in one small Markdown table, for a page that quotes results.

It needs nothing but the ``result.json`` files, which are small enough to be kept with the code.
Intervals are in the report, which needs the predictions.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from les.files import replacing
from les_bench.report.render import Table
from les_bench.report.summary import Column, Group, grouped, trained_on
from les_bench.report.tables import DASH, number
from les_bench.suite.results import ResultError, read_all

#: Marks in a page, each on a line of its own, between which the table stands.
BEGIN = "<!-- the table of `les bench headline` begins -->"
END = "<!-- the table of `les bench headline` ends -->"

#: Errors: title, key in the results, digits.
ERRORS = (("force RMSE [meV/Å]", "force_rmse", 1), ("energy RMSE [meV/atom]", "energy_rmse", 2))
#: Where data come from, in words.
SOURCES = {
    "datadir": "DFT",
    "fetched": "DFT",
    "custom": "own",
    "embedded": "xTB",
    "made": "formula",
}


def headline(folder: Path) -> str:
    """The table in Markdown, and a sentence that says how much it can show.

    Args:
        folder: results of ``les bench run``, of which only the ``result.json`` count.

    Raises:
        ResultError: if there are no results, none of them are pairs, or one is truncated.
    """
    groups = [group for group in grouped(read_all(folder)) if group.paired_seeds]
    groups = sorted((g for g in groups if not g.control), key=lambda g: (g.short_title, g.title))
    if not groups:
        raise ResultError(f"{folder}: has no seed with both a short-range model and one with LES")
    titles = [title for title, *_ in ERRORS]
    header = ["system", "model", "data", "epochs", "seeds", *titles, "dipole R²", "BEC R²"]
    return f"{Table(header, [_row(group) for group in groups]).markdown()}\n\n{_sentence(groups)}"


def put_into(path: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what stands between the marks of a Markdown file.

    Raises:
        ValueError: if it does not have both marks, once and in their order.
    """
    first, last = marks
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(f"{first}\n")
    _, end, after = rest.partition(f"{last}\n")
    if not begin or not end or first in rest or last in after:
        raise ValueError(f"{path}: must have the lines {first!r} and {last!r}, once each")
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{first}\n{text}\n{last}\n{after}", encoding="utf-8")


def _row(group: Group) -> list[str]:
    c = group.configuration
    epochs = DASH if c["epochs"] is None else str(c["epochs"])
    share = "" if group.fraction == 1 else f" ({100 * group.fraction:g} %)"
    source = SOURCES.get(c["source"], c["source"])
    row = [f"{c['system']}{share}", c["model"], source, epochs, str(len(group.paired_seeds))]
    for _, key, digits in ERRORS:
        short, les = (
            [group.variant(variant)[s]["metrics"]["test"][key] for s in group.paired_seeds]
            for variant in ("sr", "les")
        )
        means = [number(statistics.mean(values), digits) for values in (short, les)]
        row.append(f"{' → '.join(means)} ({_change(short, les)})")
    for name in ("dipole", "bec"):
        column = Column("", (name, "r2"), 2)
        found = [column.value(group.variant("les")[s]) for s in group.paired_seeds]
        known = [value for value in found if value is not None]
        row.append(number(statistics.mean(known), 2) if known else DASH)
    return row


def _change(short: Sequence[float], les: Sequence[float]) -> str:
    """In percent of the short-range error, where all seeds agree about the sign."""
    if len({b < a for a, b in zip(short, les, strict=True)}) > 1:
        return "none shown"
    change = 100 * (statistics.mean(les) / statistics.mean(short) - 1)
    return f"{change:+.0f} %".replace("-", "−")


def _sentence(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs()]
    text = (
        "Errors on the test set without → with LES, means over seeds; the two models of a row have "
        "the same data, split, seeds and budget. "
    )
    if not any(trained_on(run, name) for run in runs for name in ("dipole", "bec")):
        text += "Dipoles and Born effective charges were never trained on. "
    single = sum(len(group.paired_seeds) == 1 for group in groups)
    if single:
        which = "All rows have" if single == len(groups) else f"{single} of {len(groups)} rows have"
        text += f"{which} one seed only: with another seed a change of a few percent may differ. "
    return text.rstrip()
