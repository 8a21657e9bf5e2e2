"""A picture of charges: by element and environment, and against their reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from les.analysis.charges import ChargeAnalysis, Kind
from les.analysis.tables import signed
from les.figures import new_figure, save

#: Environments that fit into the picture.
MOST_KINDS = 30


def draw(analysis: ChargeAnalysis, path: Path) -> None:
    """Draw the charges of all kinds of atoms and, where there is one, parity with the reference.

    Raises:
        BackendError: without matplotlib.
    """
    rows = analysis.sample.rows
    kinds = analysis.kinds()
    if len(kinds) > MOST_KINDS:  # the frequent ones
        frequent = sorted(kinds, key=lambda kind: -analysis.groups[kind].charges.n)[:MOST_KINDS]
        kinds = [kind for kind in kinds if kind in frequent]
    figure = new_figure(11.0 if rows else 6.0, max(4.5, 0.22 * len(kinds) + 1.5))
    panels = figure.subplots(1, 2 if rows else 1, squeeze=False)[0]
    colours = {
        element: f"C{place % 10}"
        for place, element in enumerate(sorted({kind.element for kind in analysis.groups}))
    }
    _draw_kinds(analysis, kinds, panels[0], colours)
    if rows:
        _draw_parity(analysis, panels[1], colours)
    save(figure, path)


def _draw_kinds(
    analysis: ChargeAnalysis, kinds: list[Kind], axes: Any, colours: dict[str, str]
) -> None:
    several = len(analysis.sums) > 1
    names = []
    for place, kind in enumerate(kinds):
        group, colour = analysis.groups[kind], colours[kind.element]
        charges, heavy = group.charges, not kind.environment
        axes.hlines(place, charges.lowest, charges.highest, color=colour, linewidth=1.0)
        low, high = charges.mean - charges.deviation, charges.mean + charges.deviation
        axes.hlines(place, low, high, color=colour, linewidth=7.0 if heavy else 4.0, alpha=0.5)
        axes.plot(charges.mean, place, "o", color=colour, markersize=5)
        if group.reference.n:
            axes.plot(group.reference.mean, place, "kx", markersize=6)
        name = kind.environment or kind.element
        names.append(f"{name}, {signed(kind.total_charge)}" if several else name)
    axes.axvline(0.0, color="grey", linewidth=0.5)
    axes.set_yticks(range(len(kinds)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("charge [e]")
    crosses = ", crosses: mean references" if analysis.sample.n_rows else ""
    axes.set_title(f"mean, standard deviation, range{crosses}", fontsize=9)


def _draw_parity(analysis: ChargeAnalysis, axes: Any, colours: dict[str, str]) -> None:
    from ase.data import chemical_symbols

    numbers, reference, charges = np.array(analysis.sample.rows).T
    for number in np.unique(numbers).astype(int):
        chosen, element = numbers == number, chemical_symbols[number]
        axes.plot(
            reference[chosen],
            charges[chosen],
            ".",
            color=colours[element],
            markersize=3,
            alpha=0.6,
            label=element,
        )
    ends = [min(reference.min(), charges.min()), max(reference.max(), charges.max())]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xlabel=f"{analysis.references.charges} [e]", ylabel="charge of the model [e]")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(markerscale=3, fontsize=8)
    figures = analysis.agreements.figures()["charges"]
    shown = [
        f"{head} {figures[name]:.3g}"
        for name, head in (("r2", "R2"), ("rmse", "RMSE [e]"), ("scale", "best-fit scale"))
        if figures[name] is not None
    ]
    n_rows, n_shown = analysis.sample.n_rows, len(reference)
    if n_shown < n_rows:
        shown.append(f"{n_shown} of {n_rows} atoms shown")
    axes.set_title(", ".join(shown), fontsize=9)
