"""Frames of a trajectory, with what a current needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from les.dynamics.momenta import temperature
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
