"""Molecular dynamics whose currents are kept, and that goes on after whatever ends it.

First the structure is brought to a temperature by Langevin dynamics (NVT), then it moves by itself
(NVE), as spectra need, because a thermostat disturbs what they are made of. Born effective charges
are computed every few steps only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from les.dynamics.start import described
from les.spectra.frames import require_charges, volume
from les.spectra.motion import CurrentMotion
from les.spectra.protocol import Protocol
from les.spectra.protons import warn_of_moved_protons
from les.spectra.series import CurrentSeries
from les.spectra.table_journal import table_journal


@dataclass(frozen=True)
class Run:
    """What a run has given.

    Attributes:
        series: currents of the second part.
        energy: total energy at each of them [eV].
    """

    series: CurrentSeries
    energy: np.ndarray

    @property
    def drift(self) -> float:
        """Change of the total energy by time, from a straight line through all values [eV/ps]."""
        times = self.series.interval / 1000.0 * np.arange(len(self.energy))
        return float(np.polyfit(times, self.energy, 1)[0])


def run(
    calculator: Any,
    atoms: Any,
    protocol: Protocol,
    output: Path,
    identity: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Run:
    """Run both parts, or what is left of them, and write the table of currents.

    Every current goes at once to a journal beside ``output``, with all that it takes to go on, and
    the journal stays. So whatever ends the process, the same call goes on; with a longer
    ``production`` it adds to a run that had ended. A run in pieces is the same run.

    Args:
        calculator: with Born effective charges.
        atoms: the structure to begin with. Where it has velocities, they are kept.
        protocol: what to run.
        output: the table of currents to write.
        identity: what else the results depend on, by name.
        replace: begin anew where the journal is of another run, whose results are lost.

    Raises:
        ValueError: for a model without charges, a structure with one or two periodic axes, a
            journal of another run that is not to be replaced, and results that are not finite.
        OSError: if a file cannot be read or written.
    """
    require_charges(calculator)
    cell_volume = volume(atoms)
    named = {name: value for name, value in vars(protocol).items() if name != "production"}
    used = getattr(calculator, "used_labels", ())
    own = {**named, "structure": described(atoms, used), **(identity or {})}
    with table_journal(output, own, replace) as journal:
        records = {record["step"]: record for record in journal}
        latest = max((step for step, record in records.items() if "state" in record), default=None)
        motion = CurrentMotion(calculator, atoms, protocol)
        if latest is not None:
            motion.restore(latest, records[latest]["state"])
        last = protocol.n_equilibration + (protocol.n_currents - 1) * protocol.every
        for record in motion.records(last):
            records[record["step"]] = record
            journal.append(record)
        wanted = range(protocol.n_equilibration, last + 1, protocol.every)
        chosen = [records[step] for step in wanted]
        series = CurrentSeries(
            protocol.interval,
            np.array([record["current"] for record in chosen]),
            np.array([record["temperature"] for record in chosen]),
            cell_volume,
        )
        series.write(output)
    warn_of_moved_protons(atoms, motion.atoms)
    return Run(series, np.array([record["energy"] for record in chosen]))
