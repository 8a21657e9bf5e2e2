"""Benchmark structures, whose labels have one set of names whatever file they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from les.labels import NAMES, DataError, find_label, read_extxyz, similar_keys

#: Labels of the benchmarks; in frames they are named ``REF_<label>``.
LABELS = ("energy", "forces", "stress", "dipole", "charges", "bec")
REQUIRED = ("energy", "forces")
PER_ATOM = ("forces", "charges", "bec")


def read_frames(path: Path, *, periodic: bool) -> list[Atoms]:
    """Frames of an extxyz file (plain or ``.gz``) with labels named ``REF_<label>``.

    Raises:
        DataError: naming file, frame (from 0) and key, for an unreadable or truncated file,
            no frames, missing or non-finite labels, wrong sizes, or wrong periodicity.
    """
    return [_normalise(atoms, where, periodic) for where, atoms in read_extxyz(path)]


def _normalise(atoms: Atoms, where: str, periodic: bool) -> Atoms:
    """A copy of ``atoms`` with checked labels under our names and nothing else."""
    if not np.isfinite(atoms.positions).all():
        raise DataError(f"{where}: positions are not finite")
    if periodic != bool(atoms.pbc.all()) or periodic != bool(atoms.pbc.any()):
        expected = "periodic along all axes" if periodic else "not periodic"
        raise DataError(f"{where}: pbc must be {expected}, got {atoms.pbc.tolist()}")
    if periodic and not abs(atoms.cell.volume) > 1e-6:
        raise DataError(f"{where}: is periodic but its cell has no volume ({atoms.cell.tolist()})")

    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for label in LABELS:
        value = find_label(atoms, label, where)
        if value is None:
            if label in REQUIRED:
                keys = ", ".join(NAMES[label])
                similar = ", ".join(similar_keys(atoms, label, NAMES[label]))
                hint = f"; it has {similar}, which is not read" if similar else ""
                raise DataError(f"{where}: has no REF_{label} (looked for the keys {keys}){hint}")
            continue
        if label in PER_ATOM:
            frame.set_array(f"REF_{label}", value)
        else:
            frame.info[f"REF_{label}"] = float(value[0]) if label == "energy" else value
    known = {name for names in NAMES.values() for name in names}
    # Short labels (total charge, doped, geometry, ...) are kept, other properties are not.
    for key, value in atoms.info.items():
        if key not in known and isinstance(value, (str, bool, int, float, np.bool_, np.number)):
            frame.info[key] = value
    return frame
