"""Small structures of H and O for the shared tests."""

from __future__ import annotations

import numpy as np
from ase import Atoms

#: Two distorted water molecules near the origin [A].
_WATER = np.array([[0.0, 0.0, 0.0], [0.97, 0.05, -0.02], [-0.28, 0.91, 0.08]])
_TURNED = np.array([[0.0, 0.0, 0.0], [0.10, -0.30, 0.93], [0.06, 0.95, -0.21]])
#: Where they are put in a cell, in fractions of its vectors.
_CENTRES = np.array([[0.12, 0.21, 0.18], [0.61, 0.57, 0.66]])

_ORTHOGONAL, _ = np.linalg.qr([[0.6, -0.5, 0.8], [0.3, 0.9, -0.2], [-0.7, 0.1, 0.5]])
#: A turn about no particular axis; the sign of the determinant makes it a proper one.
ROTATION = _ORTHOGONAL * np.linalg.det(_ORTHOGONAL)

_CUBIC = 5.0 * np.eye(3)
_TRICLINIC = np.array([[5.0, 0.3, 0.0], [1.3, 5.1, -0.2], [-0.8, 0.9, 4.8]])

#: Cell vectors in rows [A], by name.
CELLS: dict[str, np.ndarray] = {
    "cubic": _CUBIC,
    "rotated": _CUBIC @ ROTATION.T,
    "triclinic": _TRICLINIC,
    "left-handed": _TRICLINIC[[1, 0, 2]],
}


def dimer() -> Atoms:
    """Two water molecules in vacuum, about 3 A apart."""
    positions = np.concatenate([_WATER, _TURNED + [0.4, -0.7, 2.9]])
    return Atoms("OH2OH2", positions)


def crystal(cell: str = "triclinic") -> Atoms:
    """Two water molecules in a periodic cell of :data:`CELLS`."""
    vectors = CELLS[cell]
    first, second = _CENTRES @ vectors
    positions = np.concatenate([_WATER + first, _TURNED + second])
    return Atoms("OH2OH2", positions, cell=vectors, pbc=True)


def liquid() -> Atoms:
    """Twelve atoms, with more images within the reach of small models than in the cell."""
    generator = np.random.default_rng(4)
    grid = np.array([[i, j, k] for i in range(3) for j in range(2) for k in range(2)])
    fractional = (grid + 0.5 + generator.uniform(-0.1, 0.1, grid.shape)) / (3, 2, 2)
    cell = [[6.5, 0.0, 0.0], [1.5, 6.2, 0.0], [-1.0, 0.8, 6.8]]
    return Atoms("H8O4", scaled_positions=fractional, cell=cell, pbc=True)


def structures() -> dict[str, Atoms]:
    """One open and all periodic structures, by name."""
    return {"open": dimer(), **{cell: crystal(cell) for cell in CELLS}}


def rotated(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """``atoms`` with positions and cell multiplied by an orthogonal ``matrix``."""
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ matrix.T)
    turned.positions = atoms.positions @ matrix.T
    return turned


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """``atoms`` with positions and cell deformed by ``1 + strain``."""
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
    return deformed
