"""Frames of a trajectory, with what a current needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from les.response.born import BORN_CHARGES
from les.response.current import current

#: What a trajectory must have where there are no velocities.
HOW_TO_KEEP = (
    "write them with the positions: ASE's trajectories and extended XYZ files keep momenta, which "
    "ase.io.write does where the structure has them"
)


class Sample(NamedTuple):
    """What one frame adds to a series.

    Attributes:
        current: ``[3]`` [e A/fs].
        temperature: from the velocities [K].
    """

    current: NDArray[np.float64]
    temperature: float


def require_charges(calculator: Any) -> None:
    """Raise ``ValueError`` for a calculator without Born effective charges."""
    config = getattr(calculator, "les_config", None)
    if hasattr(calculator, "les_config") and config is None:
        raise ValueError(
            "the model has no LES, and so no charges: spectra, fields and BORN files need a model "
            "that was trained with it"
        )
    if config is not None and config.n_channels > 1:
        raise ValueError(
            f"the model has {config.n_channels} charges on each atom, and so no Born effective "
            "charges"
        )
    if BORN_CHARGES not in getattr(calculator, "implemented_properties", ()):
        raise ValueError(f"the calculator has no {BORN_CHARGES}: make it with bec=True")


def born_charges(calculator: Any, atoms: Any) -> NDArray[np.float64]:
    """Born effective charges as the centre of mass sees them ``[n_atoms, 3, 3]`` [e].

    Their acoustic sum, which is the total charge of an ion and small in a crystal, is taken off all
    atoms by their shares of the mass. So a motion of the whole makes no current, and a field does
    not drive it away.

    Raises:
        ValueError: for a calculator without them.
    """
    bec = kept_born_charges(calculator, atoms)
    masses = atoms.get_masses()
    return bec - (masses / masses.sum())[:, None, None] * bec.sum(axis=0)


def kept_born_charges(calculator: Any, atoms: Any) -> NDArray[np.float64]:
    """Born effective charges as the calculator gives them ``[n_atoms, 3, 3]`` [e].

    Raises:
        ValueError: for a calculator without them.
    """
    require_charges(calculator)
    found = np.array(calculator.get_property(BORN_CHARGES, atoms), dtype=np.float64)
    return found.reshape(-1, 3, 3)


def sample(calculator: Any, atoms: Any) -> Sample:
    """The current of ``atoms``, as their centre of mass sees it.

    Raises:
        ValueError: for atoms without velocities.
    """
    from ase.units import fs

    if not atoms.has("momenta"):
        raise ValueError(f"there are no velocities; {HOW_TO_KEEP}")
    with torch.device("cpu"):
        bec = torch.from_numpy(born_charges(calculator, atoms))
        velocities = torch.from_numpy(atoms.get_velocities() * fs)
        found = current(bec, velocities)[0].numpy()
    return Sample(found, temperature(atoms))


def temperature(atoms: Any) -> float:
    """Twice the kinetic energy for each degree of freedom [K], but for those of a rigid body.

    These are three of a periodic structure, six of a molecule, five of a linear one. Whether the
    structure moves or turns as a whole makes no difference.
    """
    from ase.units import kB

    inner = inner_momenta(atoms)
    twice_kinetic = float((inner**2 / atoms.get_masses()[:, None]).sum())
    return twice_kinetic / (kB * max(3 * len(atoms) - rigid_motions(atoms).shape[1], 1))


def inner_momenta(atoms: Any) -> NDArray[np.float64]:
    """Momenta without those of a rigid body ``[n_atoms, 3]``, in the unit of ASE.

    The total momentum is taken out, and of an open structure the angular momentum as well.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    weighted = (atoms.get_momenta() / roots).ravel()
    basis = rigid_motions(atoms)
    inner: NDArray[np.float64] = weighted - basis @ (basis.T @ weighted)
    return inner.reshape(-1, 3) * roots


def rigid_motions(atoms: Any) -> NDArray[np.float64]:
    """An orthonormal basis of how a structure moves as a whole ``[3 n_atoms, n_motions]``.

    Coordinates are weighted by the square roots of masses. There are three translations, and of an
    open structure three rotations, two of a linear one and none of an atom.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    rigid = [(roots * axis).ravel() for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        rigid += [(roots * np.cross(axis, arms)).ravel() for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=False)
    return left[:, sizes > 1e-6 * sizes.max()]


def volume(atoms: Any) -> float | None:
    """Volume of the cell [A^3]; ``None`` for a molecule.

    Raises:
        ValueError: for one or two periodic axes, whose volume means nothing here.
    """
    n_axes = int(atoms.pbc.sum())
    if n_axes not in (0, 3):
        raise ValueError(
            f"spectra are of molecules (no periodic axis) or of bulk (three), got {n_axes}: a slab "
            "has no volume that a dielectric function could be of"
        )
    return float(atoms.get_volume()) if n_axes == 3 else None


class SameStructure:
    """Refuses a frame that does not belong to the first one.

    Args:
        atoms: the first frame.
    """

    def __init__(self, atoms: Any) -> None:
        self._numbers = atoms.numbers.copy()
        self._cell, self._pbc = np.array(atoms.cell[:]), np.array(atoms.pbc)
        self.volume = volume(atoms)

    def check(self, atoms: Any) -> None:
        """Raise ``ValueError`` for other atoms, another cell and other periodic axes."""
        if not np.array_equal(atoms.numbers, self._numbers):
            raise ValueError("the atoms must be those of the first frame, in the same order")
        if not np.array_equal(atoms.pbc, self._pbc):
            raise ValueError(
                f"the periodic axes must be those of the first frame, {self._pbc.tolist()}, got "
                f"{atoms.pbc.tolist()}"
            )
        if not np.allclose(atoms.cell[self._pbc], self._cell[self._pbc], rtol=0.0, atol=1e-6):
            raise ValueError(
                f"the cell must be that of the first frame, {self._cell.tolist()}, got "
                f"{atoms.cell[:].tolist()}: spectra are of trajectories at constant volume"
            )
