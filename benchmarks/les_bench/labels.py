"""Reading extended XYZ files into frames whose labels have one set of names."""

from __future__ import annotations

import gzip
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

#: Label here -> names it goes by in data files, in order of preference.
#: Units: eV, eV/A, eV/A^3, e*A, e.
LABELS: dict[str, tuple[str, ...]] = {
    "REF_energy": ("REF_energy", "energy"),
    "REF_forces": ("REF_forces", "forces", "force"),
    "REF_stress": ("REF_stress", "stress"),
    "REF_dipole": ("REF_dipole", "dipole"),
    "REF_charges": ("REF_charges", "charges", "mbis_charges", "hirshfeld_charges"),
    "REF_bec": ("REF_bec", "bec", "born_effective_charges"),
}
REQUIRED = ("REF_energy", "REF_forces")
PER_ATOM = ("REF_forces", "REF_charges", "REF_bec")


class DataError(ValueError):
    """A data file is missing or not fit for use; the message says where and why."""


def read_frames(path: Path, *, periodic: bool) -> list[Atoms]:
    """Frames of an extxyz file (plain or ``.gz``) with labels named as in :data:`LABELS`.

    Raises:
        DataError: naming file, frame (from 0) and key, for an unreadable or truncated file,
            no frames, missing or non-finite labels, wrong sizes, or wrong periodicity.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            lines = file.read().rstrip().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if lines == [""]:
        raise DataError(f"{path}: holds no frames")

    frames: list[Atoms] = []
    start = 0
    while start < len(lines):
        where = f"{path}: frame {len(frames)}"
        try:
            n_atoms = int(lines[start])
        except ValueError:
            raise DataError(
                f"{where}: line {start + 1} must be a number of atoms, got {lines[start]!r}"
            ) from None
        stop = start + 2 + n_atoms
        if n_atoms < 1 or stop > len(lines):
            found = max(len(lines) - start - 2, 0)
            raise DataError(
                f"{where}: announces {n_atoms} atoms, {found} lines follow (is it truncated?)"
            )
        try:
            atoms = read(StringIO("\n".join(lines[start:stop]) + "\n"), format="extxyz")
        except Exception as error:  # ASE raises many kinds; the place is what matters
            raise DataError(f"{where}: not valid extended XYZ: {error}") from error
        frames.append(_normalise(atoms, where, periodic))
        start = stop
    return frames


def _normalise(atoms: Atoms, where: str, periodic: bool) -> Atoms:
    """A copy of ``atoms`` with checked labels under our names and nothing else."""
    if not np.isfinite(atoms.positions).all():
        raise DataError(f"{where}: positions are not finite")
    if periodic != bool(atoms.pbc.all()) or periodic != bool(atoms.pbc.any()):
        expected = "periodic along all axes" if periodic else "not periodic"
        raise DataError(f"{where}: pbc must be {expected}, got {atoms.pbc.tolist()}")
    if periodic and not abs(atoms.cell.volume) > 1e-6:
        raise DataError(f"{where}: is periodic but its cell has no volume ({atoms.cell.tolist()})")

    given = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for label, names in LABELS.items():
        key = next((name for name in names if given.get(name) is not None), None)
        if key is None:
            if label in REQUIRED:
                raise DataError(f"{where}: has no {label} (looked for the keys {', '.join(names)})")
            continue
        value = _checked(label, given[key], len(atoms), f"{where}: key {key!r}")
        if label in PER_ATOM:
            frame.set_array(label, value)
        else:
            frame.info[label] = float(value[0]) if label == "REF_energy" else value
    known = {name for names in LABELS.values() for name in names}
    # Short labels (total charge, doped, geometry, ...) are kept, other properties are not.
    for key, value in atoms.info.items():
        if key not in known and isinstance(value, (str, bool, int, float, np.bool_, np.number)):
            frame.info[key] = value
    return frame


def _checked(label: str, value: object, n_atoms: int, where: str) -> np.ndarray:
    """``value`` as float64 in the shape that ``label`` has; ``DataError`` otherwise."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where} must be numeric, got {value!r}") from None
    shape = {
        "REF_energy": (1,),
        "REF_forces": (n_atoms, 3),
        "REF_stress": (6,),
        "REF_dipole": (3,),
        "REF_charges": (n_atoms,),
        "REF_bec": (n_atoms, 9),
    }[label]
    if label == "REF_stress" and array.size == 9:
        array = full_3x3_to_voigt_6_stress(array.reshape(3, 3))
    if array.size != np.prod(shape):
        raise DataError(f"{where} must have shape {list(shape)}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise DataError(f"{where} holds NaN or infinite values")
    return array.reshape(shape)
