"""The current of a structure along a trajectory, and its polarisability, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from les.files import replacing
from les.ranges import is_number

#: Columns of the files: time [fs], current [e A/fs], temperature [K].
COLUMNS = ("time", "Jx", "Jy", "Jz", "temperature")

#: Elements of the polarisability, and the columns that they add [e^2 A^2 / eV].
ELEMENTS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "xy": (0, 1), "yz": (1, 2), "xz": (0, 2)}

#: Speed of light [cm/fs].
LIGHT = 2.99792458e-5


@dataclass(frozen=True)
class CurrentSeries:
    """The current ``J = sum_i Z*_i v_i`` at equal intervals.

    Attributes:
        interval: time from one value to the next [fs].
        current: ``[n_frames, 3]`` [e A/fs].
        temperature: of each frame, from its velocities ``[n_frames]`` [K].
        volume: of the cell [A^3]; ``None`` for a molecule.
        polarisability: of each frame ``[n_frames, 3, 3]`` [e^2 A^2 / eV]; ``None`` where it was not
            asked for.

    Raises:
        ValueError: for an interval that is not positive, other shapes, fewer than two frames, and
            values that are not finite.
    """

    interval: float
    current: NDArray[np.float64]
    temperature: NDArray[np.float64]
    volume: float | None = None
    polarisability: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not (is_number(self.interval) and self.interval > 0):
            raise ValueError(f"`interval` must be a positive time in fs, got {self.interval!r}")
        n_frames = len(self.current)
        if self.current.shape != (n_frames, 3) or self.temperature.shape != (n_frames,):
            raise ValueError(
                "`current` must have shape [n_frames, 3] and `temperature` [n_frames], got "
                f"{list(self.current.shape)} and {list(self.temperature.shape)}"
            )
        if n_frames < 2:
            raise ValueError(f"a series of currents needs at least two frames, got {n_frames}")
        if self.polarisability is not None and self.polarisability.shape != (n_frames, 3, 3):
            raise ValueError(
                "`polarisability` must have shape [n_frames, 3, 3], got "
                f"{list(self.polarisability.shape)} of {n_frames} frames"
            )
        for name in ("current", "temperature", "polarisability"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"`{name}` must be finite, got NaN or infinite values")

    @property
    def duration(self) -> float:
        """Length of the trajectory [fs]."""
        return self.interval * (len(self.current) - 1)

    @property
    def mean_temperature(self) -> float:
        """[K], which the spectrum and the dielectric constant are divided by."""
        return float(self.temperature.mean())

    def blocks(self, number: int) -> list[CurrentSeries]:
        """The series in ``number`` pieces of equal length, of which the last frames may be left."""
        length = len(self.current) // number
        pieces = [slice(start, start + length) for start in range(0, number * length, length)]
        tensors = self.polarisability
        return [
            CurrentSeries(
                self.interval,
                self.current[piece],
                self.temperature[piece],
                self.volume,
                None if tensors is None else tensors[piece],
            )
            for piece in pieces
        ]

    def write(self, path: Path) -> None:
        """Write a table of :data:`COLUMNS` with commas between them."""
        times = self.interval * np.arange(len(self.current))
        columns: tuple[str, ...] = COLUMNS
        table = [times, self.current, self.temperature]
        if self.polarisability is not None:
            columns += tuple(f"alpha_{name}" for name in ELEMENTS)
            table += [self.polarisability[:, a, b] for a, b in ELEMENTS.values()]
        write_table(path, columns, np.column_stack(table))


def nyquist_limit(interval: float) -> float:
    """Largest wavenumber that values at this interval [fs] can tell from smaller ones [1/cm]."""
    return 1.0 / (2.0 * interval * LIGHT)


def write_table(path: Path, columns: tuple[str, ...], table: NDArray[np.float64]) -> None:
    """Write numbers with commas between them under a line of names, whole or not at all."""
    with replacing(path) as temporary:
        np.savetxt(
            temporary, table, fmt="%.10g", delimiter=",", header=",".join(columns), comments=""
        )
