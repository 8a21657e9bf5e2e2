r"""Harmonic frequencies and infrared intensities of molecules.

Frequencies are computed from the matrix of second derivatives, by finite differences of forces,
without translations and rotations. Intensities are computed from the derivative of the dipole along
a mode, which follows from Born effective charges without another calculation:

.. math:: \frac{\partial\mu_\alpha}{\partial Q_n} = \sum_{i\beta} Z^*_{i\alpha\beta}
    \frac{e_{n,i\beta}}{\sqrt{m_i}}

Raman activities are computed from the derivative of the polarisability along a mode, by finite
differences, for models whose charges respond to a field (``les.spectra.raman``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.dynamics.momenta import rigid_motions
from les.ranges import is_number
from les.spectra.frames import born_charges, require_charges
from les.spectra.infrared import FULL_WIDTH
from les.spectra.polarisability import require_polarisability
from les.spectra.raman import depolarisation, polarisability_derivatives, raman_activity
from les.spectra.series import write_table

#: Intensity of a mode whose dipole changes by 1 e / sqrt(u) [km/mol]: ``N_A e^2 / (12 eps_vac c^2
#: u)``, the usual 42.2561 (km/mol) / (D^2 A^-2 u^-1).
INTENSITY = 974.8801
#: Columns of the table of modes, and those that come with Raman activities.
COLUMNS = ("wavenumber", "intensity", "dipole_x", "dipole_y", "dipole_z")
RAMAN_COLUMNS = ("raman_activity", "depolarisation")


@dataclass(frozen=True)
class HarmonicModes:
    """Normal modes of a molecule.

    Attributes:
        wavenumber: ``[n_modes]`` [1/cm], rising; an imaginary one is given as a negative number.
        dipole_derivative: ``[n_modes, 3]`` [e / sqrt(u)].
        vectors: ``[n_modes, n_atoms, 3]``, of unit length in coordinates weighted by the square
            roots of masses.
        polarisability_derivative: ``[n_modes, 3, 3]`` [e^2 A / (eV sqrt(u))]; ``None`` if it was
            not requested.
    """

    wavenumber: NDArray[np.float64]
    dipole_derivative: NDArray[np.float64]
    vectors: NDArray[np.float64]
    polarisability_derivative: NDArray[np.float64] | None = None

    @property
    def intensity(self) -> NDArray[np.float64]:
        """``[n_modes]`` [km/mol]."""
        return INTENSITY * np.square(self.dipole_derivative).sum(axis=1)

    @property
    def polarisability(self) -> NDArray[np.float64]:
        """Contribution of the nuclei to the static polarisability ``[3, 3]`` [e^2 A^2 / eV].

        Raises:
            ValueError: if a mode is unstable.
        """
        from ase import units

        if self.wavenumber.min(initial=1.0) <= 0:
            raise ValueError(
                f"the structure is unstable along a mode of {self.wavenumber.min():.0f} 1/cm: it "
                "has no static polarisability"
            )
        frequency = self.wavenumber * units.invcm  # hbar omega [eV]
        squared = np.square(frequency / (units._hbar * units.J * units.s))
        return np.einsum(
            "na,nb,n->ab", self.dipole_derivative, self.dipole_derivative, 1.0 / squared
        )

    def broadened(
        self, resolution: float, highest: float = 4500.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The modes as Gaussian lines of this full width at half maximum [1/cm].

        Returns:
            Wavenumbers [1/cm] and absorption [km/mol cm].
        """
        if not (is_number(resolution) and resolution > 0):
            raise ValueError(f"`resolution` must be a positive wavenumber, got {resolution!r}")
        width = resolution / FULL_WIDTH
        grid: NDArray[np.float64] = np.asarray(np.arange(0.0, highest, resolution / 10.0))
        real = self.wavenumber > 0
        lines = np.exp(-0.5 * np.square((grid[:, None] - self.wavenumber[real]) / width))
        return grid, lines @ self.intensity[real] / (width * math.sqrt(2.0 * math.pi))

    def write(self, path: Path) -> None:
        """Write a table of :data:`COLUMNS` [1/cm, km/mol, e / sqrt(u)].

        If there are derivatives of the polarisability, :data:`RAMAN_COLUMNS` [A^4 / u] follow.
        """
        columns: tuple[str, ...] = COLUMNS
        table = [self.wavenumber, self.intensity, self.dipole_derivative]
        if self.polarisability_derivative is not None:
            columns += RAMAN_COLUMNS
            table += [
                raman_activity(self.polarisability_derivative),
                depolarisation(self.polarisability_derivative),
            ]
        write_table(path, columns, np.column_stack(table))


def relaxed(calculator: Any, atoms: Any, fmax: float = 1e-3, steps: int = 500) -> Any:
    """A copy of ``atoms`` moved to a minimum of the energy; shows its progress on a terminal.

    Raises:
        ValueError: if the largest force is not below ``fmax`` [eV/A] after ``steps`` steps.
    """
    from ase.optimize import BFGS
    from tqdm import tqdm

    moved = atoms.copy()
    moved.calc = calculator
    with (
        BFGS(moved, logfile=None) as optimiser,
        tqdm(desc="relaxing", unit="step", mininterval=1.0, disable=None) as progress,
    ):
        optimiser.attach(progress.update)
        if not optimiser.run(fmax=fmax, steps=steps):
            left = float(np.linalg.norm(moved.get_forces(), axis=1).max())
            raise ValueError(
                f"the structure is not relaxed after {steps} steps: the largest force is "
                f"{left:.2g} eV/A, and should be below {fmax:g}"
            )
    return moved


def harmonic_modes(
    calculator: Any,
    atoms: Any,
    displacement: float = 0.01,
    largest_force: float = 0.01,
    raman: bool = False,
) -> HarmonicModes:
    """The normal modes of a molecule at a minimum of its energy; shows its progress on a terminal.

    Args:
        calculator: a calculator with Born effective charges.
        atoms: open structure; see :func:`relaxed`.
        displacement: displacement of the finite differences [A].
        largest_force: largest force on an atom that is allowed [eV/A].
        raman: compute derivatives of the polarisability as well.

    Raises:
        ValueError: for a periodic structure, a single atom, larger forces, a displacement that is
            not positive, a model without Born effective charges, and with ``raman`` a model
            whose charges do not respond to a field.
    """
    from ase import units

    require_charges(calculator)
    if atoms.pbc.any():
        raise ValueError(
            f"normal modes with intensities are of molecules, got pbc {atoms.pbc.tolist()}; "
            "crystals have phonons, see les.spectra.phonons"
        )
    if len(atoms) < 2:
        raise ValueError("a single atom does not vibrate")
    if not (is_number(displacement) and displacement > 0):
        raise ValueError(f"`displacement` must be a positive length in A, got {displacement!r}")
    if raman:
        require_polarisability(calculator, atoms)
    moved = atoms.copy()
    moved.calc = calculator
    left = float(np.linalg.norm(moved.get_forces(), axis=1).max())
    if left > largest_force:
        raise ValueError(
            f"the structure is not at a minimum: the largest force is {left:.2g} eV/A, and may be "
            f"{largest_force:g}; relax it first"
        )
    born = born_charges(calculator, moved)
    masses = np.repeat(atoms.get_masses(), 3)
    hessian = _hessian(moved, displacement) / np.sqrt(np.outer(masses, masses))
    space = _vibrations(atoms)
    squares, vectors = np.linalg.eigh(space.T @ hessian @ space)
    vectors = (space @ vectors).T
    energies = np.sign(squares) * np.sqrt(np.abs(squares)) * units._hbar * units.J * units.s
    plain = (vectors / np.sqrt(masses)).reshape(len(squares), -1, 3)
    return HarmonicModes(
        energies / units.invcm,
        np.einsum("iab,nib->na", born, plain),
        vectors.reshape(plain.shape),
        polarisability_derivatives(calculator, atoms, plain, displacement) if raman else None,
    )


def _hessian(atoms: Any, displacement: float) -> NDArray[np.float64]:
    """Second derivatives of the energy ``[3 n_atoms, 3 n_atoms]`` [eV/A^2]."""
    from tqdm import tqdm

    rows = []
    places = atoms.positions.copy()
    indices = list(np.ndindex(places.shape))
    for index in tqdm(indices, desc="Hessian", unit="displacement", mininterval=1.0, disable=None):
        sides = []
        for sign in (1.0, -1.0):
            atoms.positions = places
            atoms.positions[index] += sign * displacement
            sides.append(atoms.get_forces().ravel())
        rows.append((sides[1] - sides[0]) / (2.0 * displacement))
    atoms.positions = places
    hessian = np.array(rows)
    return 0.5 * (hessian + hessian.T)


def _vibrations(atoms: Any) -> NDArray[np.float64]:
    """An orthonormal basis of what is neither translation nor rotation ``[3 n_atoms, n_modes]``."""
    rigid = rigid_motions(atoms)
    left, _, _ = np.linalg.svd(rigid)
    return left[:, rigid.shape[1] :]
