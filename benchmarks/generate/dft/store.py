"""What is finished: one file a frame in a working folder, each whole or not there.

Files are written beside their place and moved there, so that a kill at any moment leaves
either the old state or the new one. A frame that is there is not computed again.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from dft.trajectories import Trajectory, bare


class Busy(RuntimeError):
    """Another run works in the folder."""


class Store:
    """The working folder of a computation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(
        self, kind: str, part: str, trajectory: Trajectory, number: int | None, end: str
    ) -> Path:
        """Where a file of ``kind`` (frames, born, failed, ...) is; its folder is made."""
        name = trajectory.name if number is None else f"{trajectory.name}-{number:03d}"
        path = self.folder / kind / part / (name + end)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; CP2K inherits the hold, so an orphan of a killed run counts as well.

        Raises:
            Busy: another run, or CP2K that one has left behind, is at work here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Busy(
                    f"{self.folder}: another run, or CP2K that it left behind, is at work here"
                ) from None
            yield

    def note_program(self, program: str) -> None:
        """Keep what the program says of its version."""
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        first = (said.stdout.strip().splitlines() or ["unknown"])[0].strip()
        place(self.folder / "program.txt", partial(write_text, text=first + "\n"))

    def program(self) -> str:
        """Name and version of the program that computed the frames."""
        path = self.folder / "program.txt"
        return path.read_text().strip() if path.exists() else "unknown"

    def configurations(self, part: str, trajectory: Trajectory) -> list[Atoms]:
        """The trajectory's configurations, made when they are asked for first."""
        path = self.path("configurations", part, trajectory, None, ".xyz")
        if not path.exists():
            frames = [bare(atoms) for atoms in trajectory.make()]
            if not frames:
                raise RuntimeError(f"{part}, {trajectory.name}: no configurations were made")
            place(path, partial(write, images=frames, format="extxyz"))
        return list(read(path, ":", format="extxyz"))

    def frame(self, part: str, trajectory: Trajectory, number: int) -> Atoms | None:
        """A finished frame, or None."""
        path = self.path("frames", part, trajectory, number, ".xyz")
        return read(path, format="extxyz") if path.exists() else None

    def frames(self, part: str, trajectory: Trajectory) -> dict[int, Atoms]:
        """All finished frames of a trajectory by number, with those Born charges that are there."""
        found = {}
        for number in range(trajectory.count):
            frame = self.frame(part, trajectory, number)
            if frame is None:
                continue
            born = self.path("born", part, trajectory, number, ".npy")
            if born.exists():
                frame.arrays["REF_bec"] = np.load(born)
            found[number] = frame
        return found

    def finish(self, part: str, trajectory: Trajectory, number: int, frame: Atoms) -> None:
        """Keep a finished frame."""
        path = self.path("frames", part, trajectory, number, ".xyz")
        place(path, partial(write, images=frame, format="extxyz"))

    def fail(self, part: str, trajectory: Trajectory, number: int, end: str, reason: str) -> None:
        """Note that a frame (``end`` is ``.txt``) has no result; delete the note to try again."""
        path = self.path("failed", part, trajectory, number, end)
        place(path, partial(write_text, text=reason + "\n"))


def place(path: Path, write_to: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name("partial-" + path.name)
    write_to(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array to exactly this path."""
    with path.open("wb") as file:
        np.save(file, array)


def write_text(path: Path, text: str) -> None:
    """Write a text to this path."""
    path.write_text(text)
