"""What is written of each frame: a structure with results, and a line of the log."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from les.dynamics.momenta import temperature
from les.predict.output import attach, wanted

#: Columns of the log that every run has, and those of a cell with stress and of a committee.
COLUMNS = ("step", "time_fs", "temperature_K", "kinetic_eV", "potential_eV", "total_eV")
CELL_COLUMNS = ("volume_A3", "pressure_bar")
SPREAD_COLUMN = "largest_force_std_eV_per_A"


class Frames:
    """Makes frames and lines of a run.

    Args:
        atoms: the structure, with its calculator.
        timestep: [fs].

    Attributes:
        columns: names of the columns of the log.
    """

    def __init__(self, atoms: Any, timestep: float) -> None:
        self._timestep = timestep
        has = getattr(atoms.calc, "implemented_properties", ())
        self._in_a_cell = bool(atoms.pbc.all()) and "stress" in has
        self._of_a_committee = "forces_std" in has
        self.columns = (
            *COLUMNS,
            *(CELL_COLUMNS if self._in_a_cell else ()),
            *((SPREAD_COLUMN,) if self._of_a_committee else ()),
        )

    def header(self) -> str:
        """The first line of the log."""
        return ",".join(self.columns) + "\n"

    def line(self, step: int, atoms: Any) -> str:
        """A line of the log."""
        from ase import units

        kinetic, potential = float(atoms.get_kinetic_energy()), float(atoms.get_potential_energy())
        values = [step * self._timestep, temperature(atoms), kinetic, potential]
        values.append(kinetic + potential)
        if self._in_a_cell:
            stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
            values += [atoms.get_volume(), -np.trace(stress) / 3.0 / units.bar]
        if self._of_a_committee:
            spread = atoms.calc.results["forces_std"]
            values.append(np.linalg.norm(spread, axis=1).max())
        return ",".join([str(step), *(f"{value:.10g}" for value in values)]) + "\n"

    def frame(self, step: int, atoms: Any) -> str:
        """A structure in extended XYZ, with momenta, results as ``LES_...``, and the time [fs]."""
        from ase.io import write

        copy = atoms.copy()
        copy.set_constraint()
        attach(copy, wanted(atoms.calc.results))
        copy.info.update(step=step, time=step * self._timestep)
        text = io.StringIO()
        write(text, copy, format="extxyz")
        return text.getvalue()
