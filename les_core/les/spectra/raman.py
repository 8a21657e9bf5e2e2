r"""Raman scattering of molecules, from how their polarisability changes.

Light that does not come near to an electronic transition is scattered by

.. math:: S = 45 a'^2 + 7\gamma'^2, \qquad a' = \tfrac13\mathrm{tr}\,\alpha', \qquad
    \gamma'^2 = \tfrac32\,\mathrm{tr}\,(\alpha' - a' I)^2

in all directions at a right angle, of molecules that point anywhere, where :math:`\alpha'` is the
derivative of the polarisability volume along a mode: the Raman activity (D. A. Long, The Raman
Effect, Wiley 2002, section 5.5). Of what is scattered,
:math:`3\gamma'^2 / (45 a'^2 + 4\gamma'^2)` is the ratio of the part with the polarisation turned to
the one with it kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.spectra.polarisability import polarisability
from les.units import COULOMB_CONSTANT


def invariants(tensors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The squares of mean and anisotropy ``[n]`` of symmetric tensors ``[n, 3, 3]``."""
    mean = np.trace(tensors, axis1=1, axis2=2) / 3.0
    rest = tensors - mean[:, None, None] * np.eye(3)
    return mean**2, 1.5 * np.square(rest).sum(axis=(1, 2))


def raman_activity(derivative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raman activities ``[n_modes]`` [A^4 / u].

    Args:
        derivative: of the polarisability along each mode ``[n_modes, 3, 3]`` [e^2 A / (eV
            sqrt(u))].
    """
    mean, anisotropy = invariants(COULOMB_CONSTANT * derivative)
    return 45.0 * mean + 7.0 * anisotropy


def depolarisation(derivative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depolarisation ratios ``[n_modes]``, 0 to 0.75; NaN of a mode that does not scatter.

    ``derivative`` is as for :func:`raman_activity`.
    """
    mean, anisotropy = invariants(derivative)
    below = 45.0 * mean + 4.0 * anisotropy
    return np.divide(3.0 * anisotropy, below, out=np.full_like(below, np.nan), where=below > 0)


def polarisability_derivatives(
    calculator: Any, atoms: Any, steps: NDArray[np.float64], displacement: float
) -> NDArray[np.float64]:
    """Derivatives of the polarisability along modes, by finite differences.

    Progress is shown on a terminal.

    Args:
        calculator: of a model whose charges answer to a field.
        atoms: open structure.
        steps: how atoms move along each mode ``[n_modes, n_atoms, 3]`` [1 / sqrt(u)].
        displacement: of the atom that moves most [A].

    Returns:
        ``[n_modes, 3, 3]`` [e^2 A / (eV sqrt(u))].
    """
    from tqdm import tqdm

    found = []
    for step in tqdm(steps, desc="polarisabilities", unit="mode", mininterval=1.0, disable=None):
        amount = displacement / np.linalg.norm(step, axis=1).max()
        sides = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions += sign * amount * step
            sides.append(polarisability(calculator, moved))
        found.append((sides[0] - sides[1]) / (2.0 * amount))
    return np.array(found).reshape(-1, 3, 3)
