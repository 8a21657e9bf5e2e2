"""Reference energies per element from total energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def energies_per_element(
    numbers: Sequence[Sequence[int]], energies: Sequence[float], n_elements: int
) -> NDArray[np.float64]:
    """What each element contributes to ``energies``, in the sense of least squares.

    Of all solutions the smallest is taken: elements in fixed proportions share what they have
    in common, and elements that do not occur get nothing.

    Args:
        numbers: atomic numbers of each structure.
        energies: of each structure, per atom [eV].
        n_elements: highest atomic number.

    Returns:
        ``[n_elements]`` [eV], from hydrogen on.
    """
    composition = np.zeros([len(numbers), n_elements])
    for row, atoms in zip(composition, numbers):
        np.add.at(row, np.asarray(atoms) - 1, 1.0 / len(atoms))
    solution = np.linalg.lstsq(composition, np.asarray(energies, dtype=float), rcond=1e-8)[0]
    return np.asarray(solution, dtype=np.float64)
