"""Benchmark structures, whose labels have one set of names whatever file they come from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from les.data.labels import NAMES, DataError, find_label, read_extxyz, similar_keys
from les.response.agreement import QUANTITIES

#: Labels of the benchmarks; in frames they are named ``REF_<label>``.
LABELS = ("energy", "forces", "stress", "dipole", "quadrupole", "charges", "bec")
REQUIRED = ("energy", "forces")
PER_ATOM = ("forces", "charges", "bec")


def read_frames(path: Path, *, periodic: bool, response: bool = False) -> list[Atoms]:
    """Frames of an extxyz file (plain or ``.gz``) with labels named ``REF_<label>``.

    Args:
        path: the file.
        periodic: whether they must be periodic along all axes, or along none.
        response: whether they need charges, a dipole, quadrupole or Born effective charges, rather
            than energy and forces.

    Raises:
        DataError: naming file, frame (from 0) and key, for an unreadable or truncated file,
            no frames, missing or non-finite labels, wrong sizes, or wrong periodicity.
    """
    required = () if response else REQUIRED
    frames = []
    for where, atoms in read_extxyz(path):
        frame = _normalise(atoms, where, periodic, required)
        if response and all(response_label(frame, label) is None for label in QUANTITIES):
            raise DataError(
                f"{where}: has no {' or '.join(f'REF_{label}' for label in QUANTITIES)} to compare "
                "with"
            )
        frames.append(frame)
    return frames


def response_label(frame: Atoms, label: str) -> Any:
    """The label of ``les.response.agreement.QUANTITIES`` that a frame has, or ``None``."""
    place = frame.arrays if QUANTITIES[label].per_atom else frame.info
    return place.get(f"REF_{label}")


def _normalise(atoms: Atoms, where: str, periodic: bool, required: Collection[str]) -> Atoms:
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
            if label in required:
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
