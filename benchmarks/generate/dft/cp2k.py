"""One single-point calculation with CP2K: its input, its run, and what its output says.

Units: eV, Angstrom, e, except where a docstring names atomic units.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units

from dft.methods import Method

log = logging.getLogger("les.generate")

PROJECT = "frame"
#: Distance that a molecule's nuclei keep from the walls of its box (A); no density of these
#: bases is left there. The Poisson equation is solved for a charge in empty space.
WALL = 4.0
#: Numbers of points along an edge that CP2K's Poisson solver for free space knows.
POINTS = np.array(
    (64, 72, 75, 80, 81, 90, 96, 100, 108, 120, 125, 128, 135, 144, 150, 160, 162, 180, 192, 200)
    + (216, 225, 240, 243, 256, 270, 288, 300, 320, 324, 360, 375, 384, 400, 405, 432, 450, 480)
)
NUMBER = r"([-+]?\d+\.\d+(?:[ED][-+]?\d+)?)"


class CalculationError(RuntimeError):
    """CP2K did not come to a converged result."""


class Killed(RuntimeError):
    """A signal ended CP2K: this says nothing about the frame, which is to be tried again."""


@dataclass(frozen=True)
class Result:
    """Energy (eV), forces (n, 3), stress (6, Voigt order of ASE) and dipole (3, e A)."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    dipole: np.ndarray | None


def box_of(atoms: Atoms, method: Method) -> np.ndarray:
    """Edges (3,) of the box of an isolated molecule, in atomic units.

    CP2K's Poisson solver for free space wants one spacing of the grid in all directions, and
    CP2K takes the next of ``POINTS`` after what the cutoff asks for.
    """
    # A little less than the cutoff asks for, so that no number of points is rounded up, and with
    # few binary digits: CP2K compares the spacings without a tolerance.
    spacing = np.floor(4096 * np.pi / np.sqrt(method.cutoff)) / 4096
    wanted = (np.ptp(atoms.positions, axis=0) + 2 * WALL) / units.Bohr / spacing
    return POINTS[np.searchsorted(POINTS, wanted)] * spacing


def input_text(
    atoms: Atoms,
    method: Method,
    self_consistency: str,
    *,
    charge: int = 0,
    field: tuple[float, float, float] = (0.0, 0.0, 0.0),
    guess: bool = False,
    forces: bool = True,
) -> str:
    """Input file of one energy.

    Args:
        atoms: the structure; a molecule is moved to the middle of its box.
        method: electronic structure.
        self_consistency: content of ``&SCF``, one of ``method.self_consistency``.
        charge: total charge, e.
        field: homogeneous electric field, atomic units.
        guess: start from the wavefunction ``guess.wfn``.
        forces: compute forces and, where there is one, the stress.
    """
    if method.periodic:
        cell = atoms.cell.array
        unit = ""
        positions = atoms.get_positions(wrap=True)
    else:
        cell = np.diag(box_of(atoms, method))
        unit = "[bohr] "
        positions = atoms.positions + origin_of(atoms, method)
    vectors = "\n".join(
        f"{name} {unit}{x:.12f} {y:.12f} {z:.12f}" for name, (x, y, z) in zip("ABC", cell)
    )
    coordinates = "\n".join(
        f"{symbol} {x:.10f} {y:.10f} {z:.10f}"
        for symbol, (x, y, z) in zip(atoms.symbols, positions)
    )
    kinds = "\n".join(
        f"&KIND {element}\nBASIS_SET {method.basis(element)}\n"
        f"POTENTIAL {method.potential(element)}\n&END KIND"
        for element in sorted(set(atoms.symbols))
    )
    periodicity = "XYZ" if method.periodic else "NONE"
    poisson = "PERIODIC" if method.periodic else "WAVELET"
    start = "SCF_GUESS RESTART" if guess else "SCF_GUESS ATOMIC"
    convergence = method.convergence_in_field if any(field) else method.convergence
    text = f"""\
&GLOBAL
PROJECT {PROJECT}
RUN_TYPE {"ENERGY_FORCE" if forces else "ENERGY"}
PRINT_LEVEL MEDIUM
FFTW_PLAN_TYPE MEASURE
&END GLOBAL
&FORCE_EVAL
METHOD QUICKSTEP
{"STRESS_TENSOR ANALYTICAL" if forces and has_stress(method, field) else ""}
&PRINT
&FORCES
NDIGITS 12
&END FORCES
&STRESS_TENSOR
&END STRESS_TENSOR
&END PRINT
&DFT
BASIS_SET_FILE_NAME BASIS_MOLOPT
BASIS_SET_FILE_NAME BASIS_MOLOPT_UCL
POTENTIAL_FILE_NAME GTH_POTENTIALS
WFN_RESTART_FILE_NAME guess.wfn
CHARGE {charge}
{field_text(method, field)}
&QS
METHOD {method.quickstep}
EPS_DEFAULT {method.precision:.1E}
&END QS
&MGRID
CUTOFF {method.cutoff}
REL_CUTOFF {method.relative_cutoff}
&END MGRID
&POISSON
PERIODIC {periodicity}
POISSON_SOLVER {poisson}
&END POISSON
&SCF
{start}
EPS_SCF {convergence:.1E}
{method.occupations}
{self_consistency.format(convergence=f"{convergence:.1E}")}
&PRINT
&RESTART
BACKUP_COPIES 0
&EACH
QS_SCF 4
&END EACH
&END RESTART
&END PRINT
&END SCF
&XC
{method.exchange_correlation}
&END XC
{"" if method.periodic else dipole_text(atoms, method)}
&END DFT
&SUBSYS
&CELL
{vectors}
PERIODIC {periodicity}
&END CELL
&COORD
{coordinates}
&END COORD
{kinds}
&END SUBSYS
&END FORCE_EVAL
"""
    return "\n".join(line for line in text.splitlines() if line) + "\n"


def origin_of(atoms: Atoms, method: Method) -> np.ndarray:
    """Where the molecule's own origin lies in the box, so that its middle is the box's middle."""
    middle = (atoms.positions.max(axis=0) + atoms.positions.min(axis=0)) / 2
    return box_of(atoms, method) * units.Bohr / 2 - middle


def dipole_text(atoms: Atoms, method: Method) -> str:
    """Print the dipole about the molecule's own origin: a charged one's depends on it."""
    x, y, z = origin_of(atoms, method)
    return f"""\
&PRINT
&MOMENTS
PERIODIC FALSE
REFERENCE USER_DEFINED
REFERENCE_POINT [angstrom] {x:.10f} {y:.10f} {z:.10f}
&END MOMENTS
&END PRINT"""


def has_stress(method: Method, field: tuple[float, float, float]) -> bool:
    """Whether CP2K knows the stress: not with a field."""
    return method.periodic and not any(field)


def field_text(method: Method, field: tuple[float, float, float]) -> str:
    """Section of a homogeneous field, in atomic units; empty without one."""
    intensity = float(np.linalg.norm(field))
    if not intensity:
        return ""
    direction = " ".join(f"{component / intensity:.10f}" for component in field)
    # CP2K 2023.1 takes the amplitude in atomic units for both, whatever its manual says.
    name = "PERIODIC_EFIELD" if method.periodic else "EFIELD"
    steady = "" if method.periodic else "WAVELENGTH 1.0E9\nENVELOP CONSTANT\n"
    return f"&{name}\nINTENSITY {intensity:.8E}\nPOLARISATION {direction}\n{steady}&END {name}"


def calculate(
    atoms: Atoms,
    method: Method,
    folder: Path,
    *,
    program: str = "cp2k.psmp",
    charge: int = 0,
    field: tuple[float, float, float] = (0.0, 0.0, 0.0),
    guess: Path | None = None,
) -> Result:
    """Run CP2K in ``folder`` and read what it found.

    A wavefunction that a killed run left in ``folder`` is where this one begins, else ``guess``,
    brought near by the method's cheap first calculation. Where this leads nowhere, the density
    of free atoms is; then the next of the method's self-consistent schemes is tried.

    Args:
        atoms: the structure.
        method: electronic structure.
        folder: working folder, made if missing.
        program: CP2K's program.
        charge: total charge, e.
        field: homogeneous electric field, atomic units.
        guess: a wavefunction of the same atoms in about the same places.

    Raises:
        CalculationError: nothing that was tried converged; the message says why.
        Killed: a signal ended CP2K.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = folder / f"{PROJECT}-RESTART.wfn"
    start = folder / "guess.wfn"
    if left.exists():
        os.replace(left, start)
    else:
        if guess is not None and guess.exists():
            shutil.copyfile(guess, start)
        if method.first is not None and not any(field):
            approach(atoms, method.first, folder, program, charge)
    schemes = method.self_consistency_in_field if any(field) else method.self_consistency
    attempts = [(scheme, False) for scheme in schemes]
    if start.exists():
        attempts.insert(0, (schemes[0], True))
    reasons = []
    for scheme, guessed in attempts:
        text = input_text(atoms, method, scheme, charge=charge, field=field, guess=guessed)
        try:
            text = run(program, folder, text)
            return read_output(
                text, len(atoms), stress=has_stress(method, field), dipole=not method.periodic
            )
        except CalculationError as error:
            reasons.append(str(error))
            left.unlink(missing_ok=True)
    raise CalculationError("; then ".join(reasons))


def approach(atoms: Atoms, method: Method, folder: Path, program: str, charge: int) -> None:
    """Bring ``guess.wfn`` near by a cheap calculation; a failure leaves it as it was."""
    left, start = folder / f"{PROJECT}-RESTART.wfn", folder / "guess.wfn"
    scheme, guessed = method.self_consistency[0], start.exists()
    text = input_text(atoms, method, scheme, charge=charge, guess=guessed, forces=False)
    try:
        run(program, folder, text)
    except CalculationError as error:
        log.info("%s: no cheap first calculation: %s", folder.name, error)
        left.unlink(missing_ok=True)
    if left.exists():
        os.replace(left, start)


def run(program: str, folder: Path, text: str) -> str:
    """Run CP2K on the input ``text`` and return its output.

    It takes the threads of ``OMP_NUM_THREADS`` (1).

    CP2K ends with this process where that one is stopped by a signal that can be caught.
    """
    (folder / "input.inp").write_text(text)
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    output = folder / "output.out"
    with output.open("w") as file:
        child = subprocess.Popen(
            [program, "-i", "input.inp"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            close_fds=False,  # the lock of the working folder stays held while CP2K lives
        )
        try:
            code = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    said = output.read_text(errors="replace")
    if code < 0:
        raise Killed(f"{program} in {folder} was ended by signal {-code}")
    if code != 0:
        raise CalculationError(f"CP2K ended with status {code}: {complaint(said)}")
    return said


def complaint(text: str) -> str:
    """What CP2K says in its box of stars when it gives up, or the last line of its output."""
    box = text.rpartition("[ABORT]")[2] if "[ABORT]" in text else ""
    lines = [line.strip(" *|\\/") for line in box.partition("*****")[0].splitlines()]
    said = " ".join(line for line in lines if re.search(r"[a-z]{3}", line))
    return said or (text.strip().splitlines() or ["no output"])[-1].strip()


def read_output(text: str, n_atoms: int, stress: bool, dipole: bool) -> Result:
    """Results of a finished run, ``stress`` and ``dipole`` if wanted.

    CP2K's stress is the negative of ASE's. The energy of a smeared calculation is the free
    energy, whose derivatives the forces and the stress are.

    Raises:
        CalculationError: the output is not complete or the cycle has not converged.
    """
    if "SCF run NOT converged" in text or "PROGRAM ENDED" not in text:
        last = text.rstrip().splitlines()[-1:] or ["nothing"]
        reason = "the cycle did not converge" if "NOT converged" in text else "it stopped early"
        raise CalculationError(f"{reason}; the output ends with {last[0].strip()!r}")
    energy = _numbers(text, rf"ENERGY\| Total FORCE_EVAL \( QS \) energy \[a\.u\.\]:\s+{NUMBER}", 1)
    forces = _forces(text, n_atoms) * units.Ha / units.Bohr
    voigt = moment = None
    if stress:
        row = rf"\s+{NUMBER}\s+{NUMBER}\s+{NUMBER}\s*\n"
        pattern = rf"Analytical stress tensor \[GPa\]\s*\n.*\n STRESS\|\s+x{row} STRESS\|\s+y{row}"
        tensor = _numbers(text, rf"{pattern} STRESS\|\s+z{row}", 9).reshape(3, 3)
        xx, yy, zz, yz, xz, xy = (0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)
        voigt = -units.GPa * np.array([tensor[pair] for pair in (xx, yy, zz, yz, xz, xy)])
    if dipole:
        values = rf"X=\s*{NUMBER} Y=\s*{NUMBER} Z=\s*{NUMBER}"
        moment = _numbers(text, rf"Dipole moment \[Debye\]\s*\n\s*{values}", 3) * units.Debye
    result = Result(float(energy[0]) * units.Ha, forces, voigt, moment)
    if not np.isfinite(result.forces).all() or not np.isfinite(result.energy):
        raise CalculationError("energy or forces are not finite")
    return result


def _numbers(text: str, pattern: str, count: int) -> np.ndarray:
    """The numbers of the last match of ``pattern``."""
    matches = list(re.finditer(pattern, text))
    if not matches:
        raise CalculationError(f"the output has nothing like {pattern[:40]!r}")
    return np.array([float(group.replace("D", "E")) for group in matches[-1].groups()[:count]])


def _forces(text: str, n_atoms: int) -> np.ndarray:
    """Forces (n_atoms, 3) in atomic units."""
    lines = text.rsplit("ATOMIC FORCES in [a.u.]", 1)[-1].splitlines()
    rows = [
        re.match(rf"\s+\d+\s+\d+\s+[A-Z][a-z]?\s+{NUMBER}\s+{NUMBER}\s+{NUMBER}\s*$", line)
        for line in lines
    ]
    found = np.array([[float(value) for value in row.groups()] for row in rows if row is not None])
    if found.shape != (n_atoms, 3):
        raise CalculationError(f"the output has forces of {len(found)} atoms, not of {n_atoms}")
    return found
