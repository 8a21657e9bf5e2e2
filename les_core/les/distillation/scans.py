"""Pairs of molecules at growing distance, in open space, where only long-range terms are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.data.atoms import labels_without_effect
from les.data.total_charge import TOTAL_CHARGE_NAMES, total_charge
from les.distillation.molecules import whole_molecules
from les.distillation.settings import ScanSettings


def scans(
    starts: Sequence[Any], settings: ScanSettings, generator: np.random.Generator
) -> Iterator[tuple[str, Any]]:
    """Every structure of all scans, with the name of its scan.

    Args:
        starts: structures, ``ase.Atoms``, of which the molecules are taken: the first of each
            chemical formula.
        settings: distances, and the number of scans of each pair.
        generator: of the orientations.

    Raises:
        ValueError: if a structure has no molecules, or a total charge that several molecules share,
            and for a spin or fragments.
    """
    kinds = _kinds(starts)
    for one, other in combinations_with_replacement(kinds, 2):
        for number in range(settings.orientations):
            first, second = (_turned(kinds[each], generator) for each in (one, other))
            direction = _unit(generator)
            for distance in settings.distances:
                pair = first + _shifted(first, second, direction, distance)
                told = [each.info for each in (first, second) if "total_charge" in each.info]
                if told:
                    pair.info["total_charge"] = sum(each["total_charge"] for each in told)
                yield f"{one}-{other}-{number}", pair


def _kinds(starts: Sequence[Any]) -> dict[str, Any]:
    """The first molecule of each formula, without a cell."""
    from ase import Atoms

    kinds: dict[str, Any] = {}
    for number, atoms in enumerate(starts):
        parts = whole_molecules(atoms)
        if parts is None:
            raise ValueError(
                f"starting structure {number} ({atoms.get_chemical_formula()}) is one network of "
                "bonds, without molecules to scan"
            )
        for name in labels_without_effect(atoms):
            if name not in TOTAL_CHARGE_NAMES:
                raise ValueError(
                    f"starting structure {number} has {name}: how molecules share it is not known, "
                    "so there can be no scans"
                )
        charge = total_charge(atoms)
        if charge != 0.0 and len(parts) > 1:
            raise ValueError(
                f"starting structure {number} has a total charge of {charge:g} e and "
                f"{len(parts)} molecules: which of them has it is not known, so there can be no "
                "scans"
            )
        for members, positions in parts:
            molecule = Atoms(atoms.numbers[members], positions - positions.mean(axis=0))
            if any(name in atoms.info for name in TOTAL_CHARGE_NAMES):
                molecule.info["total_charge"] = charge
            kinds.setdefault(molecule.get_chemical_formula(), molecule)
    return kinds


def _turned(molecule: Any, generator: np.random.Generator) -> Any:
    """A copy in a random orientation, about its centre."""
    orthogonal, upper = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation = orthogonal * np.sign(np.diag(upper))
    turned = molecule.copy()
    turned.positions = molecule.positions @ (rotation * np.sign(np.linalg.det(rotation))).T
    return turned


def _unit(generator: np.random.Generator) -> NDArray[np.float64]:
    vector: NDArray[np.float64] = generator.normal(size=3)
    return vector / np.linalg.norm(vector)


def _shifted(first: Any, second: Any, direction: NDArray[np.float64], distance: float) -> Any:
    """``second``, moved so that its smallest distance to an atom of ``first`` is as wanted."""

    def smallest(shift: float) -> float:
        moved = second.positions + shift * direction
        return float(np.linalg.norm(first.positions[:, None] - moved, axis=-1).min())

    # Beyond the sum of both extents the distance is larger than wanted; the outermost place where
    # it is as wanted is sought from there inwards.
    radii = [float(np.linalg.norm(each.positions, axis=1).max()) for each in (first, second)]
    outer = sum(radii) + distance
    steps = np.linspace(outer, 0.0, 200)
    inner = next((step for step in steps if smallest(step) < distance), 0.0)
    low, high = inner, min(outer, inner + steps[0] - steps[1])
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if smallest(middle) < distance else (low, middle)
    moved = second.copy()
    moved.positions = second.positions + high * direction
    return moved
