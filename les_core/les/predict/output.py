"""Structures with results, written to a file in the format that its name says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from les.data.labels import PREDICTED
from les.latent_moments import ATOMIC_MOMENTS

#: Results that become entries of a structure, and columns of its atoms.
INFO_KEYS = ("energy", "les_energy", "stress", "dipole", "quadrupole")
ARRAY_KEYS = (
    "forces",
    "energies",
    "magmoms",
    "charges",
    "latent_charges",
    "electronegativity",
    "hardness",
    "born_effective_charges",
    *ATOMIC_MOMENTS,
)
#: End of the names of standard deviations over the members of a committee.
SPREAD = "_std"

#: Format -> ends of the names of its files.
FORMATS = {"extxyz": (".xyz", ".extxyz"), "traj": (".traj",)}


def format_of(path: Path) -> str:
    """The format of predictions that the name of a file says.

    Raises:
        ValueError: if it says none; the message lists those there are.
    """
    for name, suffixes in FORMATS.items():
        if path.name.lower().endswith(suffixes):
            return name
    raise ValueError(
        f"the name {path} must end with .xyz or .extxyz (extended XYZ), or with .traj (ASE's "
        "trajectories), which are the formats of predictions"
    )


def wanted(results: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a calculator's results that are written, as numbers and arrays."""
    return {
        key: _plain(value)
        for key, value in results.items()
        if key.removesuffix(SPREAD) in (*INFO_KEYS, *ARRAY_KEYS)
    }


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array if array.ndim else array.item()


def attach(atoms: Any, results: Mapping[str, Any]) -> None:
    """Put results into ``atoms``, in the place of those of an earlier prediction."""
    for place in (atoms.info, atoms.arrays):
        for name in [name for name in place if name.startswith(PREDICTED)]:
            del place[name]
    for key, value in results.items():
        place = atoms.arrays if key.removesuffix(SPREAD) in ARRAY_KEYS else atoms.info
        place[PREDICTED + key] = value


@contextlib.contextmanager
def writer(path: Path, format: str) -> Iterator[Callable[[Any], None]]:
    """A function that adds a structure to the new file ``path``.

    A ``.traj`` holds no columns of atoms but ASE's own, so there all others are in ``info``.
    """
    if format == "traj":
        from ase.io import Trajectory

        with Trajectory(str(path), "w") as trajectory:

            def add(atoms: Any) -> None:
                own = {name for name in atoms.arrays if name in _OF_TRAJECTORIES}
                for name in atoms.arrays.keys() - own:
                    atoms.info[name] = atoms.arrays[name]
                trajectory.write(atoms)

            yield add
    else:
        from ase.io import write

        with path.open("w", encoding="utf-8") as file:
            yield lambda atoms: write(file, atoms, format="extxyz")


#: Columns of atoms that ASE writes to trajectories.
_OF_TRAJECTORIES = {
    "numbers",
    "positions",
    "tags",
    "momenta",
    "masses",
    "initial_magmoms",
    "initial_charges",
}
