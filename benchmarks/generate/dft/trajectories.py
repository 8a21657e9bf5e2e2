"""Where configurations come from: trajectories, each of one split for good, and relaxations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.optimize import BFGS

#: Largest force on a free atom of a relaxed structure, eV/A.
RELAXED = 0.05
DECIMALS = 5


@dataclass(frozen=True)
class Trajectory:
    """Configurations that have one origin and therefore stay together in one split.

    Attributes:
        name: unique in its part; names the files.
        split: ``train``, ``val``, ``test``, or ``path`` for the way to a relaxed structure.
        count: number of configurations.
        make: makes all of them, with a seed of its own.
        charge: total charge, e.
        info: entries of ``Atoms.info`` of every frame.
        born: numbers of the configurations that get Born effective charges.
        restart: a frame's wavefunction is a good start for the next one's.
    """

    name: str
    split: str
    count: int
    make: Callable[[], list[Atoms]]
    charge: int = 0
    info: dict[str, object] = field(default_factory=dict)
    born: tuple[int, ...] = ()
    restart: bool = False


@dataclass(frozen=True)
class Relaxation(Trajectory):
    """A structure that goes downhill on the labels' own surface, ``count`` steps at most.

    ``make`` gives the start. ``fixed`` tells which atoms stay.
    """

    fixed: Callable[[Atoms], np.ndarray] = lambda atoms: np.zeros(len(atoms), bool)

    def largest_force(self, frame: Atoms) -> float:
        """Largest force on a free atom of a labelled frame, eV/A."""
        forces = frame.arrays["REF_forces"][~self.fixed(frame)]
        return float(np.linalg.norm(forces, axis=1).max())

    def relaxed(self, frame: Atoms) -> bool:
        """Whether no free atom of a labelled frame feels more than ``RELAXED``."""
        return self.largest_force(frame) < RELAXED

    def next(self, frames: Sequence[Atoms]) -> Atoms | None:
        """The structure after the labelled ``frames``, or None where the last one is relaxed.

        The optimiser walks over the frames again each time, so that it needs no file of its own.
        """
        if self.relaxed(frames[-1]):
            return None
        atoms = bare(frames[0])
        atoms.set_constraint(FixAtoms(mask=self.fixed(atoms)))
        atoms.calc = _Recorded(frames)
        optimiser = BFGS(atoms, logfile=None, maxstep=0.1)
        for frame in frames:
            atoms.positions = frame.positions  # as written: rounded
            optimiser.step()
        return bare(atoms)


class _Recorded(Calculator):
    """Gives forces that frames already carry."""

    implemented_properties = ("energy", "forces")

    def __init__(self, frames: Sequence[Atoms]) -> None:
        super().__init__()
        self.frames = {frame.positions.tobytes(): frame for frame in frames}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Look the positions up."""
        super().calculate(atoms, properties or ["forces"], system_changes)
        frame = self.frames[self.atoms.positions.tobytes()]
        self.results = {"energy": frame.info["REF_energy"], "forces": frame.arrays["REF_forces"]}


def seed_of(*names: str) -> int:
    """A seed that depends on names only: trajectories can be added without moving others."""
    return zlib.crc32("/".join(names).encode()) % 2**31


def bare(atoms: Atoms) -> Atoms:
    """A copy without labels, its positions rounded to what is written."""
    positions = np.round(atoms.positions, DECIMALS)
    return Atoms(atoms.numbers, positions, cell=np.round(atoms.cell.array, 6), pbc=atoms.pbc)
