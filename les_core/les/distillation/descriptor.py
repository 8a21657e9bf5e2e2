"""What a structure looks like, as a row of numbers that does not depend on its orientation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Number of Gaussians between no distance and the cutoff.
N_GAUSSIANS = 24


def descriptors(structures: Sequence[Any], cutoff: float) -> NDArray[np.float64]:
    """How many pairs of elements there are at which distances, per atom.

    For each pair of elements the distances up to the cutoff are spread by Gaussians, whose weights
    go to zero at the cutoff. Each pair of elements is then scaled so that its spread over the
    structures is one, so that rare pairs count as much as frequent ones.

    Args:
        structures: ``ase.Atoms`` of any periodicity and size.
        cutoff: longest distance [A].

    Returns:
        ``[n_structures, n_pairs_of_elements * N_GAUSSIANS]``.
    """
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    pairs = list(combinations_with_replacement(elements, 2))
    rows = np.array([_row(atoms, pairs, cutoff) for atoms in structures])
    spread = np.sqrt(np.square(rows - rows.mean(axis=0)).sum(axis=2).mean(axis=0))
    # A pair of elements that never changes tells nothing.
    scale = np.where(spread > 1e-12, spread, 1.0)
    scaled: NDArray[np.float64] = (rows / scale[:, None]).reshape(len(rows), -1)
    return scaled


def _row(atoms: Any, pairs: Sequence[tuple[int, int]], cutoff: float) -> NDArray[np.float64]:
    """``[n_pairs, N_GAUSSIANS]`` of one structure."""
    from ase.neighborlist import neighbor_list

    centres = np.linspace(0.0, cutoff, N_GAUSSIANS + 1)[1:]
    width = cutoff / N_GAUSSIANS
    first, second, distances = neighbor_list("ijd", atoms, cutoff)
    lower = np.minimum(atoms.numbers[first], atoms.numbers[second])
    upper = np.maximum(atoms.numbers[first], atoms.numbers[second])
    weights = 0.5 * (1.0 + np.cos(np.pi * distances / cutoff))
    row = np.zeros((len(pairs), N_GAUSSIANS))
    for number, (one, other) in enumerate(pairs):
        among = (lower == one) & (upper == other)
        away = (distances[among, None] - centres) / width
        row[number] = (weights[among, None] * np.exp(-0.5 * away**2)).sum(axis=0)
    return row / len(atoms)
