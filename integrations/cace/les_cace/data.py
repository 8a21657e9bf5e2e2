"""Labelled structures from extxyz files as batches with references."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from les.labels import LabelKeys, labelled_frames
from les.structures import LONG_RANGE_AXES, centred
from les_cace.batches import Batch, Structure, collate, to_structure
from les_cace.model import CACE

#: Label -> reference of each structure or atom of a batch.
References = dict[str, Tensor]


class LabelledStructures(Dataset):
    """Structures, their pairs of atoms, and references of one file, all in memory.

    Args:
        path: extxyz file, plain or ``.gz``.
        cutoff: of the model [A].
        labels: ``"energy"``, ``"forces"``, maybe ``"stress"``; every frame needs them.
        elements: atomic numbers that the model knows; all without.
        keys: label -> key in the file, for those that differ from ``les.labels.NAMES``; or what the
            files of a run share.
        axes: numbers of periodic axes that are accepted.

    Raises:
        DataError: as ``les.labels.labelled_frames``.
    """

    def __init__(
        self,
        path: str | Path,
        cutoff: float,
        labels: Sequence[str],
        elements: Sequence[int] | None = None,
        keys: LabelKeys | Mapping[str, str] | None = None,
        *,
        axes: Collection[int] = LONG_RANGE_AXES,
    ) -> None:
        frames = labelled_frames(path, labels, keys=keys, elements=elements, axes=axes)
        self.labels = tuple(labels)
        self.items: list[tuple[Structure, References]] = []
        for _, atoms, values in tqdm(frames, desc=f"reading {path}", unit="frame"):
            references = {label: torch.as_tensor(values[label]) for label in labels}
            if "stress" in references:
                stress = voigt_6_to_full_3x3_stress(values["stress"])
                references["stress"] = torch.as_tensor(stress).unsqueeze(0)
            self.items.append((to_structure(centred(atoms), cutoff), references))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur."""
        return sorted({z for structure, _ in self.items for z in structure.numbers.tolist()})

    def __getitem__(self, index: int) -> tuple[Structure, References]:
        return self.items[index]


def collate_labelled(items: Sequence[tuple[Structure, References]]) -> tuple[Batch, References]:
    """One batch of items of :class:`LabelledStructures`."""
    references = {label: torch.cat([values[label] for _, values in items]) for label in items[0][1]}
    return collate([structure for structure, _ in items]), references


def compare(
    model: nn.Module, item: tuple[Batch, References], with_forces: bool = True
) -> dict[str, tuple[Tensor, Tensor]]:
    """Predictions and references: energies per atom [eV], forces [eV/A], stress [eV/A^3]."""
    assert isinstance(model, CACE)
    parameter = model.representation.sender_embedding
    batch, references = item
    if not with_forces:
        references = {"energy": references["energy"]}
    out = model(
        *batch.to(parameter.device, parameter.dtype),
        compute_forces="forces" in references,
        compute_stress="stress" in references,
    )
    pairs = {}
    for label, reference in references.items():
        expected, predicted = reference.to(parameter.device), out[label]
        if label == "energy":
            n_atoms = torch.bincount(batch.batch).to(expected)
            expected, predicted = expected / n_atoms, predicted / n_atoms
        pairs[label] = (predicted, expected.to(predicted.dtype))
    return pairs
