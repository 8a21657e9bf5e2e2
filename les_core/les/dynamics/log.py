"""The log of a run: what it says in numbers, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from les.figures import new_figure, save

#: Column of the log -> label of its axis; those that the log has are drawn.
LABELS = {
    "total_eV": "change of total energy [eV]",
    "temperature_K": "temperature [K]",
    "pressure_bar": "pressure [bar]",
    "volume_A3": r"volume [$\mathrm{\AA}^3$]",
    "largest_force_std_eV_per_A": r"largest spread of forces [eV/$\mathrm{\AA}$]",
}


def read_log(path: Path) -> Any:
    """The log as an array with named columns ``[n_frames]``."""
    return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True, deletechars=""))


def summary(log: Any, kind: str, n_atoms: int) -> Iterator[str]:
    """Lines that say what a run has come to.

    Args:
        log: as returned by :func:`read_log`.
        kind: the ensemble.
        n_atoms: number of atoms.
    """
    time = log["time_fs"] / 1000.0
    yield f"{time[-1]:.6g} ps, {kind}, {len(log)} frames of {n_atoms} atoms"
    for name, what, unit in (
        ("temperature_K", "temperature", "K"),
        ("pressure_bar", "pressure", "bar"),
        ("volume_A3", "volume", "A^3"),
    ):
        if name in log.dtype.names and (name != "volume_A3" or kind == "npt"):
            values = log[name]
            yield f"{what}: mean {values.mean():.6g} {unit}, deviation {values.std():.3g} {unit}"
    if kind == "nve" and len(log) > 2:
        drift = np.polyfit(time, log["total_eV"], 1)[0]
        yield f"drift of the total energy: {1e6 * drift / n_atoms:.3g} ueV/ps per atom"


def draw(log: Any, path: Path, title: str, kind: str) -> None:
    """Draw energy, temperature and, where there are, pressure and volume over time."""
    names = [name for name in LABELS if name in log.dtype.names]
    if kind != "npt" and "volume_A3" in names:
        names.remove("volume_A3")
    figure = new_figure(7.0, 1.0 + 1.6 * len(names))
    for axes, name in zip(figure.subplots(len(names), sharex=True), names, strict=True):
        values = log[name] - log[name][0] if name == "total_eV" else log[name]
        axes.plot(log["time_fs"] / 1000.0, values, color="C0", linewidth=1.0)
        axes.set_ylabel(LABELS[name], fontsize=8)
    axes.set_xlabel("time [ps]")
    figure.suptitle(title, fontsize=10)
    save(figure, path)
