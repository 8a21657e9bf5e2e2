"""Structures that models trained elsewhere are tested on, with nothing to train on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from les_bench.systems.labels import DataError


@dataclass(frozen=True)
class EvaluationOnly:
    """Structures with reference forces, and their place below a data folder."""

    #: What they are, in one line.
    title: str
    file: str
    #: Name of the array with the reference forces [eV/A].
    forces: str


EVALUATION_ONLY = {
    "licl_gaf3": EvaluationOnly(
        "interface of LiCl and GaF3, far from the data", "licl_gaf3/ood_lr.xyz", "F_DFT"
    ),
}


def read_evaluation_only(name: str, data: str = "auto") -> list[Atoms]:
    """The structures, with forces ``REF_forces``.

    Args:
        name: one of :data:`EVALUATION_ONLY`.
        data: a folder, or ``"auto"`` for ``LES_DATA_DIR``.

    Raises:
        DataError: if they are not there, or have no such forces.
    """
    system = EVALUATION_ONLY[name]
    folder = os.environ.get("LES_DATA_DIR", "") if data == "auto" else data
    path = Path(folder) / system.file
    if not folder or not path.is_file():
        raise DataError(
            f"{name}: needs {system.file} in LES_DATA_DIR or the folder of --data, got {folder!r}"
        )
    frames = []
    for number, atoms in enumerate(read(path, ":")):
        forces = atoms.arrays.get(system.forces)
        if forces is None or forces.shape != (len(atoms), 3) or not np.isfinite(forces).all():
            raise DataError(f"{path}: frame {number}: must have an array {system.forces} of forces")
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.arrays["REF_forces"] = forces
        frames.append(frame)
    return frames
