"""The configurations of a distillation, before some of them are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from les.data.atoms import labels_without_effect
from les.data.bare import bare
from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE
from les.data.labels import NAMES
from les.data.spin import SPIN_NAMES
from les.data.structure_files import read_structures
from les.data.total_charge import TOTAL_CHARGE_NAMES
from les.distillation import dynamics
from les.distillation.limits import check_distances
from les.distillation.recipe import Settings
from les.distillation.scans import scans
from les.distillation.settings import RattleSettings
from les.distillation.teachers import Teacher
from les.files import replacing
from les.predict.journal import Journal
from les.predict.output import writer

#: Entries of ``Atoms.info`` that say where a configuration comes from.
ORIGIN, TRAJECTORY, FRAME = "origin", "trajectory", "frame"
#: What is kept of structures that say in which state the system is.
KEPT = (*TOTAL_CHARGE_NAMES, *SPIN_NAMES, FRAGMENT, FRAGMENT_CHARGE)


def read_starts(settings: Settings) -> list[Any]:
    """All starting structures, bare but for charge, spin and fragments.

    Raises:
        ValueError: for a file that cannot be read, atoms that are too close to one another, and
            what is said of the state of a structure and would be lost, such as a field.
    """
    found = []
    for name in settings.start:
        for where, atoms in read_structures(settings.path(name)):
            try:
                check_distances(atoms, settings.limits)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            found.append(_bare(where, atoms))
    return found


def make(
    settings: Settings, teacher: Teacher | None, journal: Journal, output: Path
) -> dict[str, Any]:
    """Write all configurations to ``output``, one after the other, each with its origin.

    Args:
        settings: where they come from.
        teacher: who runs the dynamics; needed for these only.
        journal: what has been computed already, and where what is computed goes.
        output: the file, extended XYZ.

    Returns:
        The number of configurations of each origin, and trajectories that ended early.

    Raises:
        ValueError: for structures that cannot be used; the message names file and frame, or
            trajectory and step.
    """
    starts = read_starts(settings)
    plan = settings.configurations
    trajectories: list[dynamics.Trajectory] = []
    if plan.dynamics is not None:
        assert teacher is not None
        trajectories = dynamics.plan(starts, plan.dynamics, settings.seed)
        dynamics.run(teacher, trajectories, plan.dynamics, settings.limits, journal)
    counts: dict[str, int] = {}
    with replacing(output) as temporary, writer(temporary, "extxyz") as write:
        for origin, trajectory, frame, atoms in _all(settings, starts, trajectories, journal):
            atoms.info |= {ORIGIN: origin, TRAJECTORY: trajectory, FRAME: frame}
            write(atoms)
            counts[origin] = counts.get(origin, 0) + 1
    return {"counts": counts, "ended_early": dynamics.ended_early(journal)}


def _all(
    settings: Settings,
    starts: list[Any],
    trajectories: list[dynamics.Trajectory],
    journal: Journal,
) -> Iterator[tuple[str, str, int, Any]]:
    plan = settings.configurations
    for number, name in enumerate(plan.files):
        for frame, (where, atoms) in enumerate(read_structures(settings.path(name))):
            trajectory, place = atoms.info.get(TRAJECTORY), atoms.info.get(FRAME)
            if trajectory is not None and place is not None:
                yield "file", f"file-{number}-{trajectory}", int(place), _bare(where, atoms)
            else:
                yield "file", f"file-{number}", frame, _bare(where, atoms)
    if plan.rattles is not None:
        generator = np.random.default_rng((settings.seed, 1))
        for number, atoms in enumerate(_rattled(starts, plan.rattles, generator)):
            yield "rattle", f"rattle-{number}", 0, atoms
    if plan.dynamics is not None:
        for name, frame, atoms in dynamics.kept_frames(trajectories, plan.dynamics, journal):
            yield "dynamics", name, frame, atoms
    if plan.scans is not None:
        generator = np.random.default_rng((settings.seed, 2))
        frames: dict[str, int] = {}
        for scan, atoms in scans(starts, plan.scans, generator):
            frames[scan] = frames.get(scan, -1) + 1
            yield "scan", f"scan-{scan}", frames[scan], atoms


def _rattled(
    starts: list[Any], settings: RattleSettings, generator: np.random.Generator
) -> Iterator[Any]:
    for atoms in starts:
        for amplitude in settings.amplitudes:
            for _ in range(settings.count):
                moved = atoms.copy()
                moved.positions += amplitude * generator.normal(size=(len(atoms), 3))
                yield moved


def _bare(where: str, atoms: Any) -> Any:
    """The structure alone, with charge, spin and fragments.

    Raises:
        ValueError: for what else is said of its state, and would be lost.
    """
    for name, value in labels_without_effect(atoms).items():
        if name not in KEPT:
            raise ValueError(f"{where}: it has {name}={value}, which a distillation does not keep")
    return bare(atoms)


def without_labels(atoms: Any) -> Any:
    """A copy without the labels that a structure has."""
    copy = atoms.copy()
    copy.calc = None
    for place in (copy.info, copy.arrays):
        for name in [name for names in NAMES.values() for name in names if name in place]:
            del place[name]
    return copy
