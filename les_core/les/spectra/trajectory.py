"""Currents and polarisabilities of a trajectory that another program has made."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from les.backends.signs import restore_sign, state_of_sign
from les.data.structure_files import count_structures, read_structures
from les.files import checksum
from les.ranges import is_number
from les.spectra.frames import SameStructure, require_charges, sample
from les.spectra.polarisability import polarisability
from les.spectra.protons import warn_of_moved_protons
from les.spectra.series import CurrentSeries
from les.spectra.table_journal import table_journal


def currents_of_trajectory(
    calculator: Any,
    trajectory: Path,
    interval: float,
    output: Path,
    identity: Mapping[str, Any] | None = None,
    replace: bool = False,
    raman: bool = False,
) -> CurrentSeries:
    """Evaluate a model on every frame of a trajectory.

    What has been evaluated is kept in a journal beside ``output``: after an interruption, the same
    call goes on. The journal is removed when ``output`` is there.

    Args:
        calculator: with Born effective charges.
        trajectory: a file of any format that ASE reads, with velocities.
        interval: time from frame to frame [fs].
        output: the table of currents to write.
        identity: what else the results depend on, by name.
        replace: begin anew where the journal is of another run, whose results are lost.
        raman: find the polarisability of every frame as well.

    Returns:
        What has been written.

    Raises:
        ValueError: for a model without charges, an interval that is not positive, frames
            without velocities or with another cell than the first, and with ``raman`` where there
            is no polarisability; the message names file and frame.
        OSError: if a file cannot be read or written.
    """
    from tqdm import tqdm

    require_charges(calculator)
    if not (is_number(interval) and interval > 0):
        raise ValueError(f"`interval` must be a positive time in fs, got {interval!r}")
    total = count_structures(trajectory)
    identity = {"trajectory": checksum(trajectory), "raman": raman, **(identity or {})}
    first: Any = None
    same: SameStructure | None = None
    with table_journal(output, identity, replace) as journal:
        done = journal.n_records
        if journal.last is not None:
            restore_sign(calculator, journal.last["sign"])
        with tqdm(total=total, initial=done, unit="frame") as progress:
            for place, (where, atoms) in enumerate(read_structures(trajectory)):
                try:
                    same = same or SameStructure(atoms)
                    first = atoms if first is None else first
                    same.check(atoms)
                    if place < done:
                        continue
                    found = sample(calculator, atoms)
                    tensor = polarisability(calculator, atoms) if raman else None
                except ValueError as error:
                    raise ValueError(f"{where}: {error}") from error
                journal.append(
                    {
                        "current": found.current,
                        "temperature": found.temperature,
                        "polarisability": tensor,
                        "sign": state_of_sign(calculator),
                    }
                )
                progress.update()
        assert same is not None
        records = list(islice(journal, total))
        series = CurrentSeries(
            interval,
            np.array([record["current"] for record in records]),
            np.array([record["temperature"] for record in records]),
            same.volume,
            np.array([record["polarisability"] for record in records]) if raman else None,
        )
        series.write(output)
        journal.remove()
    warn_of_moved_protons(first, atoms)
    return series
