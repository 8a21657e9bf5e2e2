"""Coulomb energies and forces of point charges, summed by other means than those of les.

They are references for models that are made with les: direct pairs where nothing is periodic, and
an Ewald sum in numpy, to six digits, where everything is.
"""

from __future__ import annotations

import numpy as np
from ase.units import _e, _eps0
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Coulomb constant [eV A / e^2].
COULOMB = _e / (4 * np.pi * _eps0) * 1e10
#: What is left of terms where sums end, relative to the largest ones.
REMAINDER = 1e-7


def open_coulomb(charges: Array, positions: Array) -> tuple[float, Array]:
    """Energy [eV] and forces ``[n_atoms, 3]`` [eV/A] of charges [e] without any cell."""
    i, j = np.triu_indices(len(charges), 1)
    vectors = positions[i] - positions[j]
    r = np.linalg.norm(vectors, axis=1)
    energies = COULOMB * charges[i] * charges[j] / r
    return float(energies.sum()), pair_forces(len(charges), (i, j), vectors, energies / r**2)


def periodic_coulomb(charges: Array, positions: Array, edge: float) -> tuple[float, Array]:
    """The same in a cube of an edge [A] that is repeated in all directions.

    The sum of the charges must be zero; the surroundings conduct.

    Raises:
        ValueError: for charges that do not sum to zero.
    """
    from scipy.special import erfc

    if abs(charges.sum()) > 1e-9:
        raise ValueError(f"`charges` must sum to zero, got {charges.sum()}")
    reach = np.sqrt(-np.log(REMAINDER))
    cutoff = edge / 2
    alpha = reach / cutoff
    # Nearest images: others are beyond the cutoff.
    i, j = np.triu_indices(len(charges), 1)
    vectors = positions[i] - positions[j]
    vectors -= edge * np.round(vectors / edge)
    r = np.linalg.norm(vectors, axis=1)
    products = COULOMB * charges[i] * charges[j] * (r <= cutoff)
    near = products * erfc(alpha * r) / r
    gauss = products * 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * r) ** 2))
    forces = pair_forces(len(charges), (i, j), vectors, (near + gauss) / r**2)

    extent = int(np.ceil(2 * alpha * reach * edge / (2 * np.pi)))
    n = np.arange(-extent, extent + 1)
    k = 2 * np.pi / edge * np.stack(np.meshgrid(n, n, n, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = (k * k).sum(axis=1)
    half = np.arange(len(k)) > len(k) // 2  # of k and -k one is enough
    k, squares = k[half], squares[half]
    weights = 8 * np.pi / edge**3 * np.exp(-squares / (4 * alpha**2)) / squares
    waves = np.exp(1j * positions @ k.T)
    structure = charges @ waves
    far = 0.5 * COULOMB * float(weights @ np.abs(structure) ** 2)
    slopes = (np.conj(waves) * structure).imag * weights
    forces -= COULOMB * charges[:, None] * (slopes @ k)
    itself = COULOMB * alpha / np.sqrt(np.pi) * float(charges @ charges)
    return float(near.sum()) + far - itself, forces


def pair_forces(
    n_atoms: int, pairs: tuple[NDArray[np.int_], NDArray[np.int_]], vectors: Array, strengths: Array
) -> Array:
    """Forces ``[n_atoms, 3]`` of pairs that push each other along ``vectors`` times ``strengths``.

    Args:
        n_atoms: number of atoms.
        pairs: first and second atom of each pair ``[n_pairs]``.
        vectors: from the second to the first ``[n_pairs, 3]`` [A].
        strengths: ``-dE/dr / r`` of each pair ``[n_pairs]`` [eV/A^2].
    """
    forces = np.zeros((n_atoms, 3))
    pushes = strengths[:, None] * vectors
    np.add.at(forces, pairs[0], pushes)
    np.add.at(forces, pairs[1], -pushes)
    return forces
