"""Reference energies per element from total energies."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger("les")


def energies_per_element(
    numbers: Sequence[Sequence[int]], residuals: Sequence[float], n_elements: int
) -> NDArray[np.float64]:
    """What each element contributes to ``residuals``, by least squares; the log says how much.

    Of all solutions the smallest is taken: elements in fixed proportions share what they have
    in common, and elements that do not occur get nothing.

    Args:
        numbers: of the elements of each structure's atoms, from 1: atomic numbers, or others.
        residuals: label minus prediction of each structure, per atom [eV].
        n_elements: highest number.

    Returns:
        ``[n_elements]`` [eV].
    """
    composition = np.zeros([len(numbers), n_elements])
    for row, atoms in zip(composition, numbers):
        np.add.at(row, np.asarray(atoms) - 1, 1.0 / len(atoms))
    found = np.linalg.lstsq(composition, np.asarray(residuals, dtype=float), rcond=1e-8)[0]
    solution: NDArray[np.float64] = np.asarray(found, dtype=np.float64)
    change = float(np.abs(solution).max(initial=0.0))
    logger.info("reference energies are fitted to the model: they change by up to %.4g eV", change)
    return solution
