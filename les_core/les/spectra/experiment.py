"""Measured spectra, read from tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.data.extxyz import DataError

#: What a measured spectrum is of; ``"unknown"`` can be compared in shape only.
QUANTITIES = ("absorption_times_index", "absorption", "unknown")


class Experiment(NamedTuple):
    """A measured spectrum.

    Attributes:
        wavenumber: ``[n]``, rising [1/cm].
        values: ``[n]``, [1/cm] unless the quantity is unknown.
        quantity: one of :data:`QUANTITIES`.
    """

    wavenumber: NDArray[np.float64]
    values: NDArray[np.float64]
    quantity: str


def check_overlap(experiment: Experiment, highest: float, path: Path) -> None:
    """Refuse a measured spectrum with nothing in the range of a computed one.

    Args:
        experiment: the measured spectrum.
        highest: end of the computed one, which begins at zero [1/cm].
        path: the file of the measured spectrum, for the message.

    Raises:
        ValueError: if no wavenumber is inside.
    """
    grid = experiment.wavenumber
    if not ((grid >= 0) & (grid <= highest)).any():
        raise ValueError(
            f"{path}: the measured spectrum must have wavenumbers in the range of the computed "
            f"one, 0 to {highest:g} 1/cm, got {grid.min():g} to {grid.max():g} 1/cm"
        )


def read_experiment(path: Path) -> Experiment:
    """Read a table whose first column is the wavenumber [1/cm].

    Columns are divided by commas or blanks; a first line names them. With ``n`` and ``k``, the
    refractive index and the extinction, the spectrum is the absorption coefficient times the
    refractive index; with ``absorption`` it is that coefficient [1/cm], with ``k`` alone it
    follows from it. Another second column is a spectrum in arbitrary units.

    Raises:
        DataError: for what is no such table; the message names file and line.
        OSError: if the file cannot be read.
    """
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.lstrip("# ").replace(",", " ").split()
        if not fields:
            continue
        try:
            row = [float(text) for text in fields]
        except ValueError:
            if rows:
                raise DataError(f"{path}: line {number}: must be numbers, got {line!r}") from None
            names = fields
            continue
        if len(row) < 2 or len(row) != len(rows[0] if rows else row) or not np.isfinite(row).all():
            raise DataError(
                f"{path}: line {number}: must be a wavenumber and what belongs to it, as many "
                f"finite numbers as in the lines before, got {line!r}"
            )
        rows.append(row)
    if len(rows) < 2:
        raise DataError(f"{path}: must be a table of a spectrum, got {len(rows)} lines of numbers")
    table = np.array(sorted(rows))
    column = {name: table[:, place] for place, name in enumerate(names[: table.shape[1]])}
    wavenumber = table[:, 0]
    if "n" in column and "k" in column:
        values = 4.0 * math.pi * wavenumber * column["k"] * column["n"]
        return Experiment(wavenumber, values, "absorption_times_index")
    if "absorption" in column:
        return Experiment(wavenumber, column["absorption"], "absorption")
    if "k" in column:
        return Experiment(wavenumber, 4.0 * math.pi * wavenumber * column["k"], "absorption")
    return Experiment(wavenumber, table[:, 1], "unknown")
