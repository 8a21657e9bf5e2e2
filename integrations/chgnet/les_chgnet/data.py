"""Labelled structures from extxyz files as graphs and targets in CHGNet's units."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import units
from ase.stress import voigt_6_to_full_3x3_stress
from torch.utils.data import Dataset
from tqdm import tqdm

from les.data.atoms import LONG_RANGE_AXES, centred
from les.data.labels import DataError, LabelKeys, labelled_frames
from les.data.requirements import ChargeStates, Requirements
from les.response.labels import RESPONSES

if TYPE_CHECKING:
    from chgnet.graph import CrystalGraph, CrystalGraphConverter

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
        keys: label -> key in the file, for those that differ from ``les.data.labels.NAMES``; or
            what the files of a run share.
        axes: numbers of periodic axes that are accepted.
        responses: ``"bec"``, ``"dipole"``, those that are trained on.
        responses_needed: whether each of these must be in some frame.

    Attributes:
        has_charged: whether a structure has a charge that the model is given, or a fragment of one.

    Raises:
        DataError: naming file, frame and key, for missing or bad labels and structures on which
            the model has no meaningful result.
    """

    def __init__(
        self,
        path: str | Path,
        converter: CrystalGraphConverter,
        targets: str,
        keys: LabelKeys | Mapping[str, str] | None = None,
        *,
        axes: Collection[int] = LONG_RANGE_AXES,
        responses: Collection[str] = (),
        responses_needed: bool = True,
    ) -> None:
        requirements = Requirements(
            ELEMENTS,
            axes,
            getattr(converter, "uses_total_charge", False),
            getattr(converter, "embedded", ()),
        )
        frames = labelled_frames(
            path,
            [LABELS[letter] for letter in targets if letter != "m"],
            [LABELS[letter] for letter in targets if letter == "m"],
            keys=keys,
            requirements=requirements,
            responses=responses,
            responses_needed=responses_needed,
        )
        self.items: list[tuple[CrystalGraph, dict[str, Any]]] = []
        states = ChargeStates(requirements)
        for where, atoms, values in tqdm(frames, desc=f"reading {path}", unit="frame"):
            states.read(atoms, where)
            self.items.append((converter(centred(atoms)), to_targets(values, len(atoms))))
        self.has_charged = states.has_charged
        largest = max((abs(float(item["e"])) for _, item in self.labelled), default=0.0)
        if (rounding := float(np.spacing(np.float32(largest))) / 2) > FLOAT32_TOLERANCE:
            logger.warning(
                "%s: energies of %.0f eV/atom are rounded by up to %.0e eV/atom in CHGNet's "
                "float32; take energies per element off them",
                *(path, largest, rounding),
            )
        if "m" in targets and all(item["m"] is None for _, item in self.items):
            raise DataError(f"{path}: no frame has magmoms; name their key with --magmoms_key")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[CrystalGraph, dict[str, Any]]:
        return self.items[index]

    @property
    def graphs(self) -> list[CrystalGraph]:
        return [graph for graph, _ in self.items]

    @property
    def labelled(self) -> list[tuple[CrystalGraph, dict[str, Any]]]:
        """Those with an energy."""
        return [item for item in self.items if not torch.isnan(item[1]["e"])]


def to_targets(labels: Mapping[str, Any], n_atoms: int) -> dict[str, Any]:
    """Targets under upstream's letters and in its units, from labels in units of ASE.

    The energy [eV] becomes one per atom, the stress [eV/A^3] ``[6]`` a matrix in GPa with the
    same sign, magnetic moments [Bohr magnetons] their absolute value; forces stay [eV/A]. Of
    these, but magnetic moments, those that the structure lacks are NaN. Born effective charges
    ``[n_atoms, 3, 3]`` [e] and dipoles ``[3]`` [e A] have their own names, and may be ``None``.

    Args:
        labels: of one structure, as ``les.data.labels.labelled_frames`` gives them.
        n_atoms: number of atoms.
    """
    targets: dict[str, Any] = {
        letter: labels[label] for letter, label in LABELS.items() if label in labels
    }
    missing = {"e": np.array([np.nan]), "f": np.full((n_atoms, 3), np.nan), "s": np.full(6, np.nan)}
    targets.update({x: missing[x] for x in missing if x in targets and targets[x] is None})
    targets.update({x: labels[x] for x in RESPONSES if x in labels})
    if targets.get("bec") is not None:
        targets["bec"] = targets["bec"].reshape(n_atoms, 3, 3)
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
