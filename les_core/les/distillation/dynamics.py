"""Molecular dynamics of a teacher, whose frames become configurations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from les.backends.attempt import BadStructureError, attempt
from les.distillation.limits import check_distances, check_energy, check_force, check_labels
from les.distillation.molecules import at_density
from les.distillation.settings import DynamicsSettings, LimitSettings
from les.distillation.teachers import Teacher
from les.dynamics.ensemble import Ensemble
from les.dynamics.motion import Motion
from les.predict.journal import Journal


@dataclass(frozen=True)
class Trajectory:
    """One trajectory.

    Attributes:
        name: what files and messages call it.
        start: the structure that it begins with, at its density.
        temperature: of the thermostat [K].
        seed: of velocities and thermostat.
    """

    name: str
    start: Any
    temperature: float
    seed: int


def plan(starts: Sequence[Any], settings: DynamicsSettings, seed: int) -> list[Trajectory]:
    """All trajectories: of every starting structure, at all temperatures and densities.

    Raises:
        ValueError: for a density of a structure that has none.
    """
    combinations = product(range(len(starts)), settings.temperatures, settings.densities)
    return [
        Trajectory(
            f"dynamics-{index}-{temperature:g}K-density-{density:g}",
            at_density(starts[index], density),
            temperature,
            int(np.random.SeedSequence((seed, number)).generate_state(1)[0]),
        )
        for number, (index, temperature, density) in enumerate(combinations)
    ]


def run(
    teacher: Teacher,
    trajectories: Sequence[Trajectory],
    settings: DynamicsSettings,
    limits: LimitSettings,
    journal: Journal,
) -> None:
    """Run what the journal does not have yet of all trajectories.

    Every frame goes to the journal, and with it all that it takes to go on, so that a run in
    pieces is the same run. With ``limits.skip_bad`` a trajectory that explodes ends there.

    Raises:
        ValueError: for a trajectory that explodes, and for structures that the teacher refuses;
            the message names the trajectory and the step.
    """
    from tqdm import tqdm

    early = ended_early(journal)
    if early and not limits.skip_bad:
        raise ValueError(f"{early[0]} (limits: skip_bad keeps the frames before it)")
    last: dict[str, dict[str, Any]] = {record["trajectory"]: record for record in journal}
    ends = _ends(settings)
    total = ends[-1] * len(trajectories)
    done = sum(ends[-1] if "bad" in record else record["step"] for record in last.values())
    with tqdm(total=total, initial=done, unit="step", desc="dynamics", mininterval=1.0) as bar:
        for trajectory in trajectories:
            latest = last.get(trajectory.name)
            if latest is not None and "bad" in latest:
                continue
            ensemble = Ensemble("nvt", settings.timestep, trajectory.temperature, settings.friction)
            before = 0 if latest is None else latest["step"]
            for end in [each for each in ends if each > before]:
                where = f"{trajectory.name}, before step {end}"
                move = partial(_advance, teacher, trajectory, ensemble, limits, latest)
                try:
                    latest = attempt(where, partial(int, end), move)
                except BadStructureError as error:
                    if not limits.skip_bad:
                        raise ValueError(
                            f"{error} (limits: skip_bad keeps the frames before it)"
                        ) from error
                    journal.append({"trajectory": trajectory.name, "bad": str(error)})
                    bar.update(ends[-1] - before)
                    break
                journal.append(latest)
                bar.update(end - before)
                before = end


def kept_frames(
    trajectories: Sequence[Trajectory], settings: DynamicsSettings, journal: Journal
) -> Iterator[tuple[str, int, Any]]:
    """The frames that a journal has: the name of the trajectory, their number, ``ase.Atoms``."""
    starts = {trajectory.name: trajectory.start for trajectory in trajectories}
    for record in journal:
        if "bad" not in record and record["step"] > settings.equilibration:
            atoms = starts[record["trajectory"]].copy()
            atoms.positions = record["state"]["positions"]
            frame = (record["step"] - settings.equilibration) // settings.every - 1
            yield record["trajectory"], frame, atoms


def ended_early(journal: Journal) -> list[str]:
    """What has ended trajectories before their time."""
    return [record["bad"] for record in journal if "bad" in record]


def _ends(settings: DynamicsSettings) -> list[int]:
    """The steps at which something is kept."""
    first, every = settings.equilibration, settings.every
    before = [*range(every, first, every), *[first] * (first > 0)]
    return [*before, *(first + every * (number + 1) for number in range(settings.n_frames))]


def _advance(
    teacher: Teacher,
    trajectory: Trajectory,
    ensemble: Ensemble,
    limits: LimitSettings,
    latest: dict[str, Any] | None,
    end: int,
) -> dict[str, Any]:
    """Move from what was kept last until the step ``end``; returns what the journal keeps.

    Raises:
        ValueError: if the structure has exploded.
    """
    teacher.check(trajectory.start)
    teacher.prepare(trajectory.start)
    motion = Motion(
        teacher.calculator,
        trajectory.start,
        temperature=trajectory.temperature,
        seed=trajectory.seed,
    )
    if latest is not None:
        motion.restore(latest["step"], latest["state"])
    lowest = motion.atoms.get_potential_energy() if latest is None else latest["lowest"]
    motion.advance(ensemble, end - motion.step)
    atoms = motion.atoms
    teacher.check(atoms)
    check_distances(atoms, limits)
    energy = float(atoms.get_potential_energy())
    forces = atoms.get_forces()
    check_labels({"energy": energy, "forces": forces}, len(atoms))
    check_force(forces, limits)
    lowest = min(float(lowest), energy)
    check_energy(energy, lowest, len(atoms), limits)
    return {
        "trajectory": trajectory.name,
        "step": motion.step,
        "lowest": lowest,
        "state": motion.state(),
    }
