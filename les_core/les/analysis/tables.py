"""Tables of an analysis: for the terminal, and as files of values separated by commas."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from les.analysis.charges import ChargeAnalysis, Structure
from les.files import replacing
from les.response.agreement import QUANTITIES, traceless
from les.tables import aligned, number_text

#: Lines of the table of environments that a terminal shows.
MOST_LINES = 40

#: Columns of environments.csv; charges in e.
GROUP_COLUMNS = (
    "total_charge",
    "element",
    "environment",
    "n_atoms",
    "mean",
    "standard_deviation",
    "minimum",
    "maximum",
    "n_references",
    "mean_reference",
    "mean_error",
    "rmse",
)
#: Columns of agreement.csv.
AGREEMENT_COLUMNS = (
    *("quantity", "reference", "unit"),
    *("n_values", "rmse", "scale", "r2", "r2_scaled"),
)

#: Names of the components of a quadrupole, and their places in it.
_PAIRS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
_MOMENTS = (*(f"dipole_{x}" for x in "xyz"), *(f"quadrupole_{x}" for x in _PAIRS))
#: Columns of structures.csv; charges in e, dipoles in e A, traceless quadrupoles in e A^2.
STRUCTURE_COLUMNS = (
    "frame",
    "formula",
    "periodic_axes",
    "total_charge",
    "charge_sum",
    *_MOMENTS,
    *(f"reference_{name}" for name in _MOMENTS),
)


def text(analysis: ChargeAnalysis) -> str:
    """What an analysis has found, in lines for a terminal."""
    figures = analysis.agreements.table()
    notes = [figures or "there is no reference to compare with"]
    if analysis.references.charges is not None:
        notes.append(f"charges are compared with {analysis.references.charges}")
    if analysis.n_periodic:
        notes.append(f"{analysis.n_periodic} periodic structures: they have no unique dipole")
    if analysis.n_ions:
        notes.append(
            f"{analysis.n_ions} ions: their moments are about the mean of the positions, and are "
            "not compared"
        )
    return "\n\n".join([_groups_text(analysis), _sums_text(analysis), "\n".join(notes)])


def signed(charge: float) -> str:
    """A total charge as text: ``+1``, ``0``, ``-0.5``."""
    return f"{charge:+g}" if charge else "0"


def write_groups(analysis: ChargeAnalysis, path: Path) -> None:
    """Write charges by element and environment, with the columns :data:`GROUP_COLUMNS`."""
    with _table(path, GROUP_COLUMNS) as write:
        for kind in analysis.kinds():
            group = analysis.groups[kind]
            charges = group.charges
            row = [*kind, charges.n, charges.mean, charges.deviation]
            row += [charges.lowest, charges.highest, group.reference.n]
            if group.reference.n:
                row += [group.reference.mean, group.error.mean, group.error.root_mean_square]
            write(row)


def write_agreement(analysis: ChargeAnalysis, path: Path) -> None:
    """Write figures of merit, with the columns :data:`AGREEMENT_COLUMNS`."""
    with _table(path, AGREEMENT_COLUMNS) as write:
        for label, figures in analysis.agreements.figures().items():
            key = analysis.references.charges if label == "charges" else label
            values = [figures[name] for name in AGREEMENT_COLUMNS[3:]]
            write([label, key, QUANTITIES[label].unit, *values])


@contextlib.contextmanager
def structure_writer(path: Path) -> Iterator[Callable[[Structure], None]]:
    """A function that adds a line with the columns :data:`STRUCTURE_COLUMNS` to the new file."""
    with _table(path, STRUCTURE_COLUMNS) as write:

        def add(structure: Structure) -> None:
            atoms = structure.atoms
            row = [structure.frame, atoms.get_chemical_formula(), int(atoms.pbc.sum())]
            row += [structure.total_charge, float(structure.charges.sum())]
            row += _moments(structure.dipole, structure.quadrupole)
            row += _moments(structure.labels["dipole"], structure.labels["quadrupole"])
            write(row)

        yield add


def _moments(dipole: object, quadrupole: object) -> list[object]:
    """The columns of a dipole and a traceless quadrupole, empty for ``None``."""
    row: list[object] = [""] * 9
    if dipole is not None:
        row[:3] = np.asarray(dipole, dtype=float).tolist()
    if quadrupole is not None:
        matrix = traceless(np.asarray(quadrupole, dtype=float))
        row[3:] = [float(matrix[place]) for place in _PAIRS.values()]
    return row


@contextlib.contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], None]]:
    """A function that adds a row to the new file; shorter rows are filled up."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)

        def write(row: Sequence[object]) -> None:
            cells = [f"{value:.8g}" if isinstance(value, float) else value for value in row]
            writer.writerow([*cells, *[""] * (len(columns) - len(cells))])

        yield write


def _groups_text(analysis: ChargeAnalysis) -> str:
    several = len(analysis.sums) > 1
    compared = any(group.reference.n for group in analysis.groups.values())
    head = ["charges [e]", "atoms", "mean", "spread", "from", "to"]
    head = ["total"] * several + head + ["reference", "RMSE"] * compared
    rows = [head]
    for kind in analysis.kinds():
        group = analysis.groups[kind]
        charges = group.charges
        row = [signed(kind.total_charge)] * several
        row += [f"  {kind.environment}" if kind.environment else kind.element, str(charges.n)]
        row += [f"{charges.mean:+.3f}", f"{charges.deviation:.3f}"]
        row += [f"{charges.lowest:+.3f}", f"{charges.highest:+.3f}"]
        if compared and group.reference.n:
            row += [f"{group.reference.mean:+.3f}", f"{group.error.root_mean_square:.3f}"]
        elif compared:
            row += ["-", "-"]
        rows.append(row)
    shown = aligned(rows[: 1 + MOST_LINES])
    left = len(rows) - 1 - MOST_LINES
    return f"{shown}\n... and {left} more in environments.csv" if left > 0 else shown


def _sums_text(analysis: ChargeAnalysis) -> str:
    rows = [["total charge [e]", "structures", "mean sum", "spread", "from", "to"]]
    for total, sums in sorted(analysis.sums.items()):
        figures = (sums.mean, sums.deviation, sums.lowest, sums.highest)
        rows.append([signed(total), str(sums.n), *(number_text(float(x)) for x in figures)])
    deviations = analysis.deviations
    largest = max(-deviations.lowest, deviations.highest)
    return (
        f"{aligned(rows)}\nsums less total charges: root mean square "
        f"{deviations.root_mean_square:.2g} e, largest {largest:.2g} e"
    )
