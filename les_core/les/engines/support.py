"""Which engine runs which models, and what it gives: the table of the page docs/engines.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from les.backends.features import Notes, Support, no, yes

#: What an engine may give, in the order of the table.
PROPERTIES = ("forces", "stress", "charges", "dipole", "Born charges", "several ranks")


class Engine(NamedTuple):
    """An engine of molecular dynamics.

    Attributes:
        feature: that of ``les.backends.features`` which says of a model whether it runs there.
        gives: each of :data:`PROPERTIES` -> whether the engine has it, and why not.
    """

    feature: str
    gives: Mapping[str, Support]


_ALL = {name: yes() for name in PROPERTIES[:5]}
_ONE_PROCESS = no("The model is evaluated in one process")
_NO_VIRIAL = no("A Python force of OpenMM has no virial")

#: Name of an engine, as the page has it -> what it does.
ENGINES: dict[str, Engine] = {
    "`les md`, ASE": Engine("ase", {**_ALL, "several ranks": _ONE_PROCESS}),
    "OpenMM": Engine("ase", {**_ALL, "stress": _NO_VIRIAL, "several ranks": _ONE_PROCESS}),
    "i-PI": Engine(
        "ase", {**_ALL, "several ranks": no("One process for each driver; beads are divided")}
    ),
    "LAMMPS, `les lammps`": Engine(
        "lammps",
        {
            **_ALL,
            "Born charges": yes("By `--born-every`, with the current"),
            "several ranks": yes(),
        },
    ),
    "TorchSim": Engine(
        "",
        {
            name: no("TorchSim 0.6 needs Python 3.12; there is no interface yet")
            for name in PROPERTIES
        },
    ),
}


def table(features_of: Mapping[str, Mapping[str, Support]]) -> str:
    """Engines with the models that run there and what they give, as Markdown with notes below.

    Args:
        features_of: name of a backend -> its features.
    """
    notes = Notes()
    lines = [
        f"| | {' | '.join((*features_of, *PROPERTIES))} |",
        f"|---|{'---|' * (len(features_of) + len(PROPERTIES))}",
    ]
    for name, engine in ENGINES.items():
        runs = [
            features[engine.feature] if engine.feature else engine.gives["forces"]
            for features in features_of.values()
        ]
        cells = [notes.cell(support) for support in (*runs, *(engine.gives[x] for x in PROPERTIES))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *notes.lines()]
    return "\n".join(lines) + "\n"
