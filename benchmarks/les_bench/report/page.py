"""``les bench report``: a folder of results as Markdown, PNG pictures and one HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from les.files import replacing
from les_bench.report import plots, tables
from les_bench.report.render import Block, Details, Heading, Picture, Table, Verdict, html, markdown
from les_bench.report.summary import Group, grouped, set_of, trained_on
from les_bench.report.verdict import verdict
from les_bench.suite.results import PREDICTIONS, read_all, read_predictions

TITLE = "Benchmarks with and without latent Ewald summation"
#: Width and height of every picture [inches].
SIZE = (4.2, 3.5)
#: What became of the trainings of a suite; written by ``les bench run --suite``.
RECORD = "suite.json"

READING = (
    "Errors on the test set, means over seeds; lower is better. The two models of a row have the "
    "same data, split, seed and budget and differ in nothing but the long-range term. A difference "
    "is LES minus short-range, with its 95 % interval over seeds and molecules or trajectories; "
    "where the interval has 0 in it, or seeds disagree about the sign, none is shown. Dipoles and "
    "Born effective charges (BEC) are trained on only where the options of a run say so."
)


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and PNG files; returns the HTML file.

    Args:
        folder: results of ``les bench run``.
        output: folder to write to, ``folder`` itself by default.

    Raises:
        ResultError: if there are no results, or one is truncated (the message names it).
    """
    groups = sorted(grouped(read_all(folder)), key=lambda g: (g.short_title, g.title))
    output = output or folder
    output.mkdir(parents=True, exist_ok=True)
    missing = not_done(folder)
    page: list[Block] = [Heading(TITLE, 1), Verdict(verdict(groups, len(missing)))]
    page += leading_pictures(groups, output)
    page += [tables.main_table(groups), READING]
    if missing:
        page += [Details(f"Not done: {len(missing)} trainings", [_missing_table(missing)])]
    for title, make in DETAILS.items():
        table = make(groups)
        if table.rows:
            page.append(Details(title, [table]))
    for number, group in enumerate(groups, 1):
        c = group.configuration
        stem = f"{number}-{c['system']}-{c['source']}-{c['model']}"
        page += [Heading(group.title), *_pictures(group, output, stem), _details(group)]
    path = output / "report.html"
    for place, text in ((output / "report.md", markdown(page)), (path, html(page, TITLE))):
        with replacing(place) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


#: Tables that are folded away, by what they are about.
DETAILS: dict[str, Callable[[Sequence[Group]], Table]] = {
    "Energy, force and stress errors": tables.error_table,
    "Charges, dipoles, quadrupoles, Born effective charges": tables.response_table,
    "Controls: other models of the same data and budget": tables.control_table,
    "Farther apart than in the training data": tables.distance_table,
    "On doped slabs: wetting energies": tables.wetting_table,
    "Errors by the share of the training set": tables.fraction_table,
    "How early the gain is there": tables.learning_table,
    "Cost": tables.cost_table,
    "Symmetry and consistency": tables.consistency_table,
}


def leading_pictures(groups: Sequence[Group], output: Path) -> list[Block]:
    """Pictures that say most, before any number: energies along a distance, where there are any."""
    blocks: list[Block] = []
    for number, group in enumerate(groups, 1):
        found = {v: g for v in ("sr", "les") if (g := _first(group, v)) is not None}
        if group.control or not found or "distance" not in next(iter(found.values()))["test"]:
            continue
        for index, name in enumerate(plots.curve_names(found), 1):
            figure, ax = _figure()
            plots.distance_curve(found, name, ax=ax, trained=group.largest_distance)
            path = output / f"{number}-curve-{index}.png"
            _save(figure, path)
            caption = f"{name.partition('/')[0]} drawn apart ({group.configuration['model']})."
            if group.largest_distance is not None:
                caption += (
                    " Shaded: distances in the training data; beyond them neither model was shown "
                    "anything."
                )
            blocks.append(Picture(path, caption))
    return blocks


def not_done(folder: Path) -> dict[str, dict[str, Any]]:
    """Trainings of a suite in ``folder`` that were not done, by name."""
    try:
        cells = json.loads((folder / RECORD).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: entry for name, entry in cells.items() if entry["status"] != "done"}


def _missing_table(missing: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for name, entry in missing.items():
        error = (str(entry.get("error", "")).splitlines() or [""])[0]
        rows.append([name, entry["status"], error if len(error) < 120 else error[:117] + "..."])
    return Table(["training", "", "why"], rows)


def _details(group: Group) -> Details:
    """Every run of a group, and what was measured with what."""
    columns = [*tables.SET_ERRORS, *tables.RESPONSE, *tables.COST]
    columns = [c for c in columns if any(c.value(run) is not None for run in group.runs())]
    rows = [
        [result["name"], *(column.text([column.value(result)]) for column in columns)]
        for variant in ("sr", "les")
        for _, result in sorted(group.variant(variant).items())
    ]
    result = group.runs()[0]
    sizes = ", ".join(f"{n} {split}" for split, n in group.configuration["n_structures"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v)
    machine = result["machine"]
    checksums = ", ".join(f"{k} {v[:12]}…" for k, v in result["data"]["checksums"].items())
    blocks: list[Block] = [
        Table(["run", *(column.title for column in columns)], rows),
        *group.notes(),
        f"Structures: {sizes}. Data (sha256): {checksums}. {versions}. "
        f"{machine['cpu']}, {machine['threads']} thread(s), {machine['device']}.",
    ]
    return Details("Runs, notes and versions", blocks)


def _first(group: Group, variant: str) -> dict[str, dict[str, Any]] | None:
    """Predictions of the first seed of a variant, all sets."""
    for folder, result in group.results.items():
        c = result["configuration"]
        if c["variant"] == variant and c["seed"] == min(group.variant(variant)):
            return read_predictions(folder / PREDICTIONS)
    return None


def _pictures(group: Group, output: Path, stem: str) -> list[Block]:
    """Parity plots of the first seed of each variant, and the learning curves of all."""
    sets = {v: found for v in ("sr", "les") if (found := _first(group, v)) is not None}
    blocks: list[Block] = []

    def add(kind: str, caption: str, draw: Callable[[Any], object]) -> None:
        figure, ax = _figure()
        draw(ax)
        path = output / f"{stem}-{kind}.png"
        _save(figure, path)
        blocks.append(Picture(path, caption))

    def both(draw: Callable[..., object]) -> Callable[[Any], object]:
        return lambda ax: [draw(s["test"], ax=ax, variant=v) for v, s in sets.items()]

    add("force", "Forces on the test set against the reference.", both(plots.force_parity))
    add("energy", "Energies on the test set, less their mean.", both(plots.energy_parity))
    les = next(iter(group.variant("les").values()), None)
    for name, what, draw in (
        ("dipole", "Dipoles", plots.dipole_parity),
        ("bec", "Born effective charges", plots.bec_parity),
    ):
        split = None if les is None else set_of(les, name)
        if les is not None and split is not None:
            drawn = partial(_on, draw, sets["les"][split])
            how = "trained on" if trained_on(les, name) else "never trained on"
            add(name, f"{what}, {how} ({split} set).", drawn)

    def curves(ax: Any) -> None:
        for variant in ("sr", "les"):
            for i, result in enumerate(group.variant(variant).values()):
                label = None if i else plots.NAMES[variant]
                plots.learning_curve(result["history"], ax=ax, variant=variant, label=label)

    add("learning", "Validation error of the forces while training.", curves)
    return blocks


def _on(draw: Callable[..., object], data: dict[str, Any], ax: Any) -> object:
    return draw(data, ax=ax)


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
