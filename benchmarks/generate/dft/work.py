"""The computation itself: what is to be done next, done once, in rounds over the parts."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms, units

from dft.cp2k import PROJECT, CalculationError, Result, calculate
from dft.methods import Method
from dft.store import Store, place, save_array
from dft.trajectories import DECIMALS, Relaxation, Trajectory, bare

log = logging.getLogger("les.generate")

#: Electric field of the derivatives that give Born effective charges, atomic units.
FIELD = 5e-4
TURN = 3
#: Frames with a larger force are no use to anybody, eV/A.
MAX_FORCE = 20.0


@dataclass(frozen=True)
class Part:
    """One data set: a method and trajectories."""

    name: str
    method: Method
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True)
class Task:
    """A frame, or (``born``) the Born effective charges of a finished one."""

    part: Part
    trajectory: Trajectory
    number: int
    born: bool = False

    @property
    def end(self) -> str:
        """End of the name of a failure's note."""
        return "-born.txt" if self.born else ".txt"


def open_tasks(part: Part, store: Store) -> Iterator[Task]:
    """What is left to do: first frames of all trajectories first, Born charges after their frame.

    The trajectories take turns of ``TURN`` frames, those of different splits among one another.
    """
    longest = max(trajectory.count for trajectory in part.trajectories)
    for first in range(0, longest, TURN):
        for trajectory, number in product(taking_turns(part), range(first, first + TURN)):
            if number >= trajectory.count:
                continue
            here = part.name, trajectory, number
            if store.path("failed", *here, ".txt").exists():
                continue
            if not store.path("frames", *here, ".xyz").exists():
                if not isinstance(trajectory, Relaxation) or _goes_on(part, trajectory, store):
                    yield Task(part, trajectory, number)
            elif number in trajectory.born:
                done = store.path("born", *here, ".npy").exists()
                if not done and not store.path("failed", *here, "-born.txt").exists():
                    yield Task(part, trajectory, number, born=True)


def taking_turns(part: Part) -> list[Trajectory]:
    """Trajectories with every split's first ones first."""
    places: dict[str, int] = {}
    order = []
    for trajectory in part.trajectories:
        place_in_split = places[trajectory.split] = places.get(trajectory.split, -1) + 1
        order.append((place_in_split, trajectory))
    return [trajectory for _, trajectory in sorted(order, key=lambda pair: pair[0])]


def _goes_on(part: Part, trajectory: Relaxation, store: Store) -> bool:
    """Whether a relaxation is not at its end and did not fail."""
    if any(
        store.path("failed", part.name, trajectory, n, ".txt").exists()
        for n in range(trajectory.count)
    ):
        return False
    frames = store.frames(part.name, trajectory)
    return not frames or not trajectory.relaxed(frames[max(frames)])


def do(task: Task, store: Store, program: str) -> None:
    """Do one task and keep its result, or the reason why there is none."""
    try:
        if task.born:
            born_charges(task, store, program)
        else:
            single_point(task, store, program)
    except CalculationError as error:
        log.warning("%s, %s-%03d: %s", task.part.name, task.trajectory.name, task.number, error)
        store.fail(task.part.name, task.trajectory, task.number, task.end, str(error))


def single_point(task: Task, store: Store, program: str) -> None:
    """Energy, forces, and stress or dipole of one configuration."""
    part, trajectory, number = task.part, task.trajectory, task.number
    atoms = _configuration(task, store)
    guess = store.path("wavefunctions", part.name, trajectory, None, ".wfn")
    folder = _working_folder(task, store, "frame")
    start = time.monotonic()
    result = calculate(
        atoms,
        part.method,
        folder,
        program=program,
        charge=trajectory.charge,
        guess=guess if trajectory.restart else None,
    )
    largest = np.abs(result.forces).max()
    if largest > MAX_FORCE:
        raise CalculationError(f"a force of {largest:.1f} eV/A")
    frame = labelled(atoms, result, trajectory)
    frame.info["seconds"] = round(time.monotonic() - start, 1)
    written = folder / f"{PROJECT}-RESTART.wfn"
    keep = trajectory.restart or number in trajectory.born
    if keep and written.exists():
        place(guess, partial(shutil.copyfile, written))
    store.finish(part.name, trajectory, number, frame)
    shutil.rmtree(folder)


def born_charges(task: Task, store: Store, program: str) -> None:
    """Z[i, alpha, beta] = d F[i, beta] / d E[alpha] in six fields, kept as (n, 9).

    This is the same as d mu[alpha] / d R[i, beta], for six calculations instead of 6 n.
    """
    part, trajectory, number = task.part, task.trajectory, task.number
    frame = store.frame(part.name, trajectory, number)
    assert frame is not None
    guess = store.path("wavefunctions", part.name, trajectory, None, ".wfn")
    forces = np.empty((3, 2, len(frame), 3))
    for axis in range(3):
        for side, sign in enumerate((1, -1)):
            kept = store.path(
                "fields", part.name, trajectory, number, f"-{'xyz'[axis]}{'+-'[side]}.npy"
            )
            if not kept.exists():
                field = [0.0, 0.0, 0.0]
                field[axis] = sign * FIELD
                folder = _working_folder(task, store, f"field-{axis}-{side}")
                result = calculate(
                    bare(frame),
                    part.method,
                    folder,
                    program=program,
                    charge=trajectory.charge,
                    field=(field[0], field[1], field[2]),
                    guess=guess,
                )
                place(kept, partial(save_array, array=result.forces))
                shutil.rmtree(folder)
            forces[axis, side] = np.load(kept)
    # From eV/A per atomic unit of field to e.
    slopes = (forces[:, 0] - forces[:, 1]) / (2 * FIELD * units.Ha / units.Bohr)
    charges = np.round(slopes.transpose(1, 0, 2).reshape(-1, 9), DECIMALS)
    kept = store.path("born", part.name, trajectory, number, ".npy")
    place(kept, partial(save_array, array=charges))


def labelled(atoms: Atoms, result: Result, trajectory: Trajectory) -> Atoms:
    """A frame with the labels of ``result``, rounded to what the calculation is good for."""
    frame = bare(atoms)
    frame.info.update(trajectory.info)
    frame.info["trajectory"] = trajectory.name
    frame.info["total_charge"] = trajectory.charge
    frame.info["REF_energy"] = round(result.energy, 7)
    frame.arrays["REF_forces"] = np.round(result.forces, DECIMALS)
    if result.stress is not None:
        frame.info["REF_stress"] = np.round(result.stress, 8)
    if result.dipole is not None:
        frame.info["REF_dipole"] = np.round(result.dipole, 6)
    return frame


def _configuration(task: Task, store: Store) -> Atoms:
    """The structure of a task."""
    trajectory = task.trajectory
    if isinstance(trajectory, Relaxation) and task.number:
        frames = store.frames(task.part.name, trajectory)
        atoms = trajectory.next([frames[number] for number in range(task.number)])
        assert atoms is not None  # `open_tasks` asks first
        return atoms
    made = store.configurations(task.part.name, trajectory)
    if task.number >= len(made):
        raise CalculationError("the trajectory ended before this configuration")
    return made[task.number]


def _working_folder(task: Task, store: Store, what: str) -> Path:
    """CP2K's folder of one calculation; it stays where a run is killed."""
    name = f"{task.part.name}-{task.trajectory.name}-{task.number:03d}-{what}"
    return store.folder / "running" / name
