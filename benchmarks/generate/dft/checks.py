"""Are the labels derivatives of one another, and do they still depend on the grid?"""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from dft.cp2k import PROJECT, Result, calculate
from dft.store import Store, place, write_text
from dft.trajectories import Trajectory, bare
from dft.work import FIELD, Part

#: Displacement (A) and strain of the central differences.
STEP = 0.01
STRAIN = 0.004
#: Finest grid against which three frames are compared, in units of the part's own cutoff.
FINER = 1.5
FRAMES = 3


class Checker:
    """Calculations of one part that are kept, so that a stopped check goes on."""

    def __init__(self, part: Part, store: Store, program: str) -> None:
        self.part, self.store, self.program = part, store, program

    def result(self, name: str, trajectory: Trajectory, atoms: Atoms, cutoff: float) -> Result:
        """Result of ``atoms``, computed if it is not there yet."""
        path = self.store.path("checks", self.part.name, trajectory, None, f"-{name}.json")
        if not path.exists():
            # One after the other they are nearly the same calculation, but for a turned one.
            guess = self.store.path("checks", self.part.name, trajectory, None, ".wfn")
            folder = self.store.folder / "running" / f"check-{self.part.name}-{trajectory.name}"
            found = calculate(
                atoms,
                dataclasses.replace(self.part.method, cutoff=cutoff),
                folder,
                program=self.program,
                charge=trajectory.charge,
                guess=guess,
            )
            place(guess, partial(shutil.copyfile, folder / f"{PROJECT}-RESTART.wfn"))
            shutil.rmtree(folder)
            values = {
                key: None if value is None else np.asarray(value).tolist()
                for key, value in dataclasses.asdict(found).items()
            }
            text = json.dumps(values)
            place(path, partial(write_text, text=text))
        values = json.loads(path.read_text())
        arrays = {key: None if v is None else np.array(v) for key, v in values.items()}
        return Result(**(arrays | {"energy": values["energy"]}))

    def difference(self, trajectory: Trajectory, frame: Atoms) -> list[str]:
        """Largest force component, and the stress along x, against central differences."""
        cutoff = self.part.method.cutoff
        forces = frame.arrays["REF_forces"]
        atom, axis = np.unravel_index(np.abs(forces).argmax(), forces.shape)
        energies = []
        for side, sign in (("plus", 1), ("minus", -1)):
            moved = bare(frame)
            moved.positions[atom, axis] += sign * STEP
            energies.append(self.result(f"force-{side}", trajectory, moved, cutoff).energy)
        slope = -(energies[0] - energies[1]) / (2 * STEP)
        lines = [
            f"force on atom {atom} along {'xyz'[axis]}: {forces[atom, axis]:.4f} eV/A, "
            f"by difference of {STEP} A {slope:.4f}"
        ]
        if self.part.method.periodic:
            energies = []
            for side, sign in (("plus", 1), ("minus", -1)):
                strained = bare(frame)
                strain = np.diag([1 + sign * STRAIN, 1.0, 1.0])
                strained.set_cell(frame.cell.array @ strain, scale_atoms=True)
                energies.append(self.result(f"stress-{side}", trajectory, strained, cutoff).energy)
            slope = (energies[0] - energies[1]) / (2 * STRAIN * frame.get_volume())
            lines.append(
                f"stress xx: {frame.info['REF_stress'][0]:.6f} eV/A^3, by difference of a strain "
                f"of {STRAIN} {slope:.6f}"
            )
        return lines

    def convergence(self, trajectory: Trajectory, frame: Atoms) -> str:
        """One frame with a finer grid."""
        cutoff = FINER * self.part.method.cutoff
        finer = self.result("finer", trajectory, bare(frame), cutoff)
        energy = (frame.info["REF_energy"] - finer.energy) / len(frame)
        force = frame.arrays["REF_forces"] - finer.forces
        line = (
            f"{trajectory.name}, {cutoff:g} Ry: energy {1e3 * energy:+.2f} meV an atom, forces "
            f"{1e3 * np.sqrt((force**2).mean()):.1f} meV/A (root mean square of "
            f"{1e3 * np.sqrt((finer.forces**2).mean()):.0f})"
        )
        if finer.stress is not None:
            stress = np.abs(frame.info["REF_stress"] - finer.stress).max()
            line += f", stress {1e3 * stress:.2f} meV/A^3"
        if finer.dipole is not None:
            dipole = np.abs(frame.info["REF_dipole"] - finer.dipole).max()
            line += f", dipole {dipole:.4f} e A"
        return line

    def elsewhere(self, trajectory: Trajectory, frame: Atoms) -> str:
        """One frame elsewhere on the grid: a crystal moved, a molecule turned."""
        rng = np.random.default_rng(0)
        other, back = bare(frame), np.eye(3)
        if self.part.method.periodic:
            other.positions += rng.uniform(0.0, 1.0, 3)
        else:
            back = Rotation.random(rng=rng).as_matrix()
            other.positions = other.positions @ back.T
        found = self.result("elsewhere", trajectory, other, self.part.method.cutoff)
        change = found.forces @ back - frame.arrays["REF_forces"]
        energy = abs(found.energy - frame.info["REF_energy"]) / len(frame)
        return (
            f"{trajectory.name}, elsewhere on the grid: energy {1e3 * energy:.3f} meV an atom, "
            f"forces {1e3 * np.sqrt((change**2).mean()):.2f} meV/A, "
            f"{1e3 * np.abs(change).max():.1f} at most"
        )

    def sum_rule(self) -> list[str]:
        """Sum of the Born effective charges of each frame that has them: the total charge."""
        lines = []
        for trajectory in self.part.trajectories:
            for frame in self.store.frames(self.part.name, trajectory).values():
                if "REF_bec" in frame.arrays:
                    total = frame.arrays["REF_bec"].sum(axis=0).reshape(3, 3)
                    wrong = np.abs(total - trajectory.charge * np.eye(3)).max()
                    lines.append(
                        f"{trajectory.name}: Born charges add up to the total charge within "
                        f"{wrong:.3f} e (fields of {FIELD:g} atomic units)"
                    )
        return lines


def check(parts: list[Part], store: Store, program: str) -> None:
    """Write ``checks/PART.txt`` into the working folder, a line each time that one is known."""
    for part in parts:
        checker = Checker(part, store, program)
        path = store.folder / "checks" / f"{part.name}.txt"
        firsts = []
        for trajectory in part.trajectories:
            frame = store.frame(part.name, trajectory, 0)
            if frame is not None:
                firsts.append((trajectory, frame))
        lines = checker.sum_rule()
        if firsts:
            lines += checker.difference(*firsts[0])
            place(path, partial(write_text, text="\n".join(lines) + "\n"))
        for trajectory, frame in firsts[:FRAMES]:
            lines.append(checker.elsewhere(trajectory, frame))
            place(path, partial(write_text, text="\n".join(lines) + "\n"))
            lines.append(checker.convergence(trajectory, frame))
            place(path, partial(write_text, text="\n".join(lines) + "\n"))
