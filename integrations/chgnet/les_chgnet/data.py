"""Labelled structures from extxyz files as graphs and targets in CHGNet's units."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import units
from ase.stress import voigt_6_to_full_3x3_stress
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from les.labels import NAMES, DataError, find_label, read_extxyz
from les.structures import check_atoms, check_elements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms
    from chgnet.graph import CrystalGraph, CrystalGraphConverter
    from numpy.typing import NDArray

logger = logging.getLogger("les")

#: Upstream's letter of a target -> our name of the label.
LABELS = {"e": "energy", "f": "forces", "s": "stress", "m": "magmoms"}

#: Rounding of energies to float32 [eV/atom] that is worth a warning.
FLOAT32_TOLERANCE = 1e-5

#: Elements that CHGNet knows.
ELEMENTS = range(1, 95)


class LabelledGraphs(Dataset):
    """Graphs and targets of one file, all in memory.

    Upstream's own data sets put another structure, drawn by lot, in the place of one that
    cannot be converted; here that is an error.

    Args:
        path: extxyz file, plain or ``.gz``.
        converter: makes the graphs.
        targets: upstream's letters, ``"ef"``, ``"efs"``, ...; only magnetic moments may be
            missing, in some of the frames.
        keys: label -> key in the file, for those that differ from ``les.labels.NAMES``.
        allow_slab: accept one or two periodic axes, which LES does not support.

    Raises:
        DataError: naming file, frame and key, for missing or bad labels and structures on which
            the model has no meaningful result.
    """

    def __init__(
        self,
        path: str | Path,
        converter: CrystalGraphConverter,
        targets: str,
        keys: Mapping[str, str] | None = None,
        *,
        allow_slab: bool = False,
    ) -> None:
        keys = keys or {}
        self.items: list[tuple[CrystalGraph, dict[str, Any]]] = []
        for where, atoms in tqdm(read_extxyz(path), desc=f"reading {path}", unit="frame"):
            try:
                check_atoms(atoms, allow_slab=allow_slab)
                check_elements(atoms, ELEMENTS)
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
            if "s" in targets and not atoms.pbc.any():
                raise DataError(
                    f"{where}: an open structure (pbc false) has no stress; leave 's' out of "
                    "--targets"
                )
            labels = {letter: _label(atoms, letter, where, keys) for letter in targets}
            self.items.append((converter(atoms), to_targets(labels, len(atoms))))
        largest = max(abs(float(item["e"])) for _, item in self.items)
        if (rounding := float(np.spacing(np.float32(largest))) / 2) > FLOAT32_TOLERANCE:
            logger.warning(
                "%s: energies of %.0f eV/atom are rounded by up to %.0e eV/atom in CHGNet's "
                "float32; take energies per element off them",
                *(path, largest, rounding),
            )
        if "m" in targets and all(item["m"] is None for _, item in self.items):
            raise DataError(f"{path}: no frame has magmoms ({_names('magmoms', keys)})")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[CrystalGraph, dict[str, Any]]:
        return self.items[index]

    @property
    def graphs(self) -> list[CrystalGraph]:
        return [graph for graph, _ in self.items]


def _names(label: str, keys: Mapping[str, str]) -> str:
    names = [keys[label]] if label in keys else NAMES[label]
    return f"looked for the key {' or '.join(map(repr, names))}"


def _label(atoms: Atoms, letter: str, where: str, keys: Mapping[str, str]) -> NDArray[Any] | None:
    label = LABELS[letter]
    value = find_label(atoms, label, where, [keys[label]] if label in keys else None)
    if value is None and letter != "m":
        raise DataError(
            f"{where}: has no {label} ({_names(label, keys)}); name the right key with "
            f"--{label}_key, or leave {letter!r} out of --targets"
        )
    return value


def to_targets(labels: Mapping[str, Any], n_atoms: int) -> dict[str, Any]:
    """Targets in CHGNet's units from labels in those of ASE.

    The energy [eV] becomes one per atom, the stress [eV/A^3] ``[6]`` a matrix in GPa with the
    same sign, magnetic moments [Bohr magnetons] their absolute value; forces stay [eV/A].

    Args:
        labels: upstream's letter -> label.
        n_atoms: number of atoms.
    """
    targets = dict(labels)
    if "e" in targets:
        targets["e"] = targets["e"][0] / n_atoms
    if "s" in targets:
        targets["s"] = voigt_6_to_full_3x3_stress(targets["s"]) / units.GPa
    if targets.get("m") is not None:
        targets["m"] = abs(targets["m"])
    return {
        letter: None if value is None else torch.as_tensor(value, dtype=torch.float32)
        for letter, value in targets.items()
    }


class EpochShuffle(Sampler[int]):
    """Another order in each epoch, which depends on the seed and the epoch only.

    A run that is continued sees the order that it would have seen.

    Args:
        n_samples: number of samples.
        seed: of all epochs.
        epoch: the first epoch.
    """

    def __init__(self, n_samples: int, seed: int, epoch: int = 0) -> None:
        self.n_samples, self.seed, self.epoch = n_samples, seed, epoch

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        self.epoch += 1
        order: Sequence[int] = torch.randperm(self.n_samples, generator=generator).tolist()
        return iter(order)
