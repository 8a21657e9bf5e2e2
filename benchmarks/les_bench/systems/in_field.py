"""Structures whose reference was computed in a homogeneous electric field.

Their energies and forces have the field in them, so that the trainings of the benchmarks, whose
models take no field, are not on them. What a field changes is compared instead: dipoles,
polarisabilities, and the slopes of forces, which are Born effective charges.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.io import read
from numpy.typing import NDArray

from les.data.bare import bare
from les.data.external_field import FIELD_KEYS
from les_bench.systems.labels import DataError

Array = NDArray[np.float64]

#: Fields of one geometry of which slopes at zero field are made, by a polynomial of order 2.
MIN_FIELDS = 4


@dataclass(frozen=True)
class InField:
    """Structures in fields, and their place below a data folder."""

    #: What they are, in one line.
    title: str
    file: str
    #: Every so many of them has its dipole and polarisability compared.
    every: int = 1


IN_FIELD = {
    "water_field": InField(
        "liquid water in electric fields", "water_field/water_field_train.xyz.gz"
    ),
    "nma_field": InField(
        "N-methylacetamide in electric fields", "nma_field/nma_field_validation.xyz.gz", every=20
    ),
}


class Measured(NamedTuple):
    """A structure in a field.

    Attributes:
        atoms: the structure with its charge state, but without labels and field.
        field: ``[3]`` [V/A].
        forces: ``[n_atoms, 3]`` [eV/A], in the field.
        dipole: ``[3]`` [e A], in the field.
        polarisability: ``[3, 3]`` [e^2 A^2/eV].
    """

    atoms: Atoms
    field: Array
    forces: Array
    dipole: Array
    polarisability: Array


class Slope(NamedTuple):
    """How the forces of one geometry begin to change with a field.

    Attributes:
        atoms: the geometry.
        axis: ``[3]``, the direction of the fields, of length 1.
        slopes: ``[n_atoms, 3]`` [e], derivatives of forces with respect to the field along the
            axis: the Born effective charges ``axis @ Z`` of each atom.
    """

    atoms: Atoms
    axis: Array
    slopes: Array


def read_in_field(name: str, data: str = "auto") -> list[Measured]:
    """All structures.

    Args:
        name: one of :data:`IN_FIELD`.
        data: a folder, or ``"auto"`` for ``LES_DATA_DIR``.

    Raises:
        DataError: if they are not there, or one has not all labels.
    """
    system = IN_FIELD[name]
    folder = os.environ.get("LES_DATA_DIR", "") if data == "auto" else data
    path = Path(folder) / system.file
    if not folder or not path.is_file():
        raise DataError(
            f"{name}: needs {system.file} in LES_DATA_DIR or the folder of --data, got {folder!r}"
        )
    return [_measured(atoms, f"{path}: frame {n}") for n, atoms in enumerate(read(path, ":"))]


def _measured(atoms: Atoms, where: str) -> Measured:
    results = {} if atoms.calc is None else atoms.calc.results
    labels = {
        "external_field": (atoms.info.get("external_field"), (3,)),
        "forces": (results.get("forces"), (len(atoms), 3)),
        "dipole": (results.get("dipole"), (3,)),
        "polarizability": (atoms.info.get("polarizability"), (3, 3)),
    }
    found = []
    for label, (value, shape) in labels.items():
        array = np.asarray([] if value is None else value, dtype=np.float64)
        if array.size != np.prod(shape) or not np.isfinite(array).all():
            raise DataError(f"{where}: must have `{label}` of shape {list(shape)}, got {value}")
        found.append(array.reshape(shape))
    alone = bare(atoms)
    for key in FIELD_KEYS:  # the models are asked how they answer to one, not put into it
        alone.info.pop(key, None)
    return Measured(alone, *found)


def force_slopes(frames: Sequence[Measured]) -> Iterator[Slope]:
    """The slopes at zero field of each geometry that is there in enough fields of one direction."""
    same: dict[tuple[bytes, ...], list[Measured]] = {}
    for frame in frames:
        atoms = frame.atoms
        key = tuple(x.tobytes() for x in (atoms.numbers, atoms.positions, atoms.cell.array))
        same.setdefault(key, []).append(frame)
    for members in same.values():
        fields = np.array([frame.field for frame in members])
        axis = np.linalg.svd(fields)[2][0]
        strengths = fields @ axis
        if len(np.unique(strengths)) < MIN_FIELDS or not np.allclose(
            np.outer(strengths, axis), fields, rtol=0, atol=1e-9
        ):
            continue
        forces = np.array([frame.forces.ravel() for frame in members])
        slopes = np.polynomial.polynomial.polyfit(strengths, forces, 2)[1]
        yield Slope(members[0].atoms, axis, slopes.reshape(-1, 3))
