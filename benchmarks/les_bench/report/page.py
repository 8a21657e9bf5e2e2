"""``les bench report``: a folder of results as Markdown, PNG plots and one HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from les.files import replacing
from les_bench.report import plots
from les_bench.report.summary import (
    COST,
    EPOCH_TIME,
    ERRORS,
    RESPONSE,
    Column,
    Group,
    Result,
    grouped,
    set_of,
)
from les_bench.suite.results import PREDICTIONS, read_all, read_predictions

TITLE = "Benchmarks with and without latent Ewald summation"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 78em; margin: 2em auto;
       padding: 0 1.5em; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right;
         white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
h2 { margin-top: 2em; }
img { max-width: 100%; }
p { color: #555; }
"""


@dataclass(frozen=True)
class Table:
    """A table to be written as Markdown or HTML."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Pipe table, numbers to the right."""
        rule = [":--"] + ["--:"] * (len(self.header) - 1)
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows))

    def html(self) -> str:
        """The same as an HTML table."""

        def line(row: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"

        body = "\n".join(line(row, "td") for row in self.rows)
        return f"<table>\n{line(self.header, 'th')}\n{body}\n</table>"


@dataclass(frozen=True)
class Heading:
    """A section heading; level 1 is the page's title."""

    text: str
    level: int = 2


#: A page is a list of these: headings, paragraphs (``str``), tables and pictures (``Path``).
Block = Heading | str | Table | Path


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and PNG files; returns the HTML file.

    Args:
        folder: results of ``les bench run``.
        output: folder to write to, ``folder`` itself by default.

    Raises:
        ResultError: if there are no results, or one is truncated (the message names it).
    """
    groups = grouped(read_all(folder))
    output = output or folder
    output.mkdir(parents=True, exist_ok=True)
    page: list[Block] = [Heading(TITLE, 1), *_comparison(groups)]
    for number, group in enumerate(groups, 1):
        c = group.configuration
        stem = f"{number}-{c['system']}-{c['source']}-{c['model']}"
        page += [Heading(group.title), *_section(group), *_pictures(group, output, stem)]
    html = output / "report.html"
    for path, text in ((output / "report.md", _markdown(page)), (html, _html(page))):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return html


def _comparison(groups: Sequence[Group]) -> list[Block]:
    """All groups in two tables: the numbers, and LES against short-range."""
    columns = _columns([result for group in groups for result in group.results.values()])
    rows, pairs = [], []
    for group in groups:
        for variant in ("sr", "les"):
            if runs := group.variant(variant):
                values = [column.text(map(column.value, runs.values())) for column in columns]
                rows.append([group.title, plots.NAMES[variant], _seeds(list(runs)), *values])
        if n := len(group.pairs(ERRORS[0])):
            differences = [group.difference(column) for column in ERRORS]
            pairs.append([group.title, str(n), *differences, group.ratio(EPOCH_TIME)])
    blocks: list[Block] = [
        "Errors on the test set; mean ± standard deviation over seeds. Rows of one system differ "
        "in nothing but the long-range term.",
        Table(["system", "variant", "seeds", *(c.title for c in columns)], rows),
    ]
    if pairs:
        header = ["system", "pairs", *(c.title for c in ERRORS), "time per epoch, ratio"]
        blocks += [Heading("LES minus short-range, seed by seed"), Table(header, pairs)]
    return blocks


def _section(group: Group) -> list[Block]:
    """One group: every run, wetting energies, and what was measured with what."""
    columns = _columns(list(group.results.values()))
    rows = [
        [result["name"], *(column.text([column.value(result)]) for column in columns)]
        for result in group.results.values()
    ]
    blocks: list[Block] = [Table(["run", *(c.title for c in columns)], rows)]
    if wetting := group.wetting():
        header = ["variant", "surface", "E(wetting) − E(non-wetting), reference [eV]", "model [eV]"]
        blocks.append(Table(header, wetting))
    result = next(iter(group.results.values()))
    sizes = ", ".join(f"{n} {split}" for split, n in group.configuration["n_structures"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v)
    machine = result["machine"]
    checksums = ", ".join(f"{k} {v[:12]}…" for k, v in result["data"]["checksums"].items())
    return [
        *blocks,
        *group.notes(),
        f"Structures: {sizes}. Data (sha256): {checksums}. {versions}. "
        f"{machine['cpu']}, {machine['threads']} thread(s), {machine['device']}.",
    ]


def _columns(results: Sequence[Result]) -> list[Column]:
    """The columns for which at least one result has a value."""
    columns = (*ERRORS, *RESPONSE, *COST)
    return [c for c in columns if any(c.value(result) is not None for result in results)]


def _pictures(group: Group, output: Path, stem: str) -> list[Block]:
    """Parity plots of the first seed of each variant, and the learning curves of all."""
    first = {}
    for folder, result in group.results.items():
        variant = result["configuration"]["variant"]
        if variant not in first:
            first[variant] = read_predictions(folder / PREDICTIONS)
    les = next(iter(group.variant("les").values()), None)
    response = []
    if les is not None:
        for name, draw in (("dipole", plots.dipole_parity), ("bec", plots.bec_parity)):
            if split := set_of(les, name):
                response.append((draw, first["les"][split]))

    figure = Figure(figsize=(4 * (2 + len(response)), 3.8), layout="constrained")
    axes = figure.subplots(1, 2 + len(response))
    for variant in ("sr", "les"):
        if variant in first:
            plots.energy_parity(first[variant]["test"], ax=axes[0], variant=variant)
            plots.force_parity(first[variant]["test"], ax=axes[1], variant=variant)
    for ax, (draw, data) in zip(axes[2:], response, strict=True):
        draw(data, ax=ax)
    parity = output / f"{stem}-parity.png"
    _save(figure, parity)

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.subplots()
    for variant in ("sr", "les"):
        for i, result in enumerate(group.variant(variant).values()):
            label = None if i else plots.NAMES[variant]
            plots.learning_curve(result["history"], ax=ax, variant=variant, label=label)
    learning = output / f"{stem}-learning.png"
    _save(figure, learning)
    return [parity, learning]


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _seeds(seeds: list[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _markdown(page: Sequence[Block]) -> str:
    def block(item: Block) -> str:
        if isinstance(item, Heading):
            return f"{'#' * item.level} {item.text}"
        if isinstance(item, Table):
            return item.markdown()
        return f"![{item.stem}]({item.name})" if isinstance(item, Path) else item

    return "\n\n".join(map(block, page)) + "\n"


def _html(page: Sequence[Block]) -> str:
    """One file with the pictures inside, so that it opens anywhere."""

    def block(item: Block) -> str:
        if isinstance(item, Heading):
            return f"<h{item.level}>{escape(item.text)}</h{item.level}>"
        if isinstance(item, Table):
            return item.html()
        if isinstance(item, Path):
            png = base64.b64encode(item.read_bytes()).decode()
            return f'<img alt="{escape(item.stem)}" src="data:image/png;base64,{png}">'
        return f"<p>{escape(item)}</p>"

    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(TITLE)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(map(block, page))
        + "\n</body>\n</html>\n"
    )
