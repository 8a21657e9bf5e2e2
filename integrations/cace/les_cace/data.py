"""Labelled structures from extxyz files as batches with references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from les.data.atoms import centred
from les.data.labels import ANYTHING, LabelKeys, labelled_frames
from les.data.requirements import ChargeStates, Requirements
from les.training.charges import ChargeStatistics
from les.training.errors import RESULTS
from les_cace.batches import Batch, Structure, collate, to_structure
from les_cace.model import CACE

#: Label -> reference of each structure or atom of a batch.
References = dict[str, Tensor]


class LabelledStructures(Dataset):
    """Structures, their pairs of atoms, and references of one file, all in memory.

    Args:
        path: extxyz file, plain or ``.gz``.
        cutoff: of the model [A].
        labels: ``"energy"``, ``"forces"``, maybe ``"stress"``; every frame without one of
            ``responses`` needs them.
        requirements: what the model asks of structures.
        keys: label -> key in the file, for those that differ from ``les.data.labels.NAMES``; or
            what the files of a run share.
        responses: ``"bec"``, ``"dipole"``, those that are trained on.
        responses_needed: whether each of these must be in some frame.

    Attributes:
        has_charged: whether a structure has a charge that the model is given, or a fragment of one.

    Raises:
        DataError: as ``les.data.labels.labelled_frames``.
    """

    def __init__(
        self,
        path: str | Path,
        cutoff: float,
        labels: Sequence[str],
        requirements: Requirements = ANYTHING,
        keys: LabelKeys | Mapping[str, str] | None = None,
        *,
        responses: Sequence[str] = (),
        responses_needed: bool = True,
    ) -> None:
        frames = labelled_frames(
            path,
            labels,
            keys=keys,
            requirements=requirements,
            responses=responses,
            responses_needed=responses_needed,
        )
        self.labels = tuple(labels)
        self.items: list[tuple[Structure, References]] = []
        states = ChargeStates(requirements)
        for where, atoms, values in tqdm(frames, desc=f"reading {path}", unit="frame"):
            references = {
                label: _reference(label, values[label], len(atoms))
                for label in (*labels, *responses)
            }
            state = states.read(atoms, where)
            self.items.append((to_structure(centred(atoms), cutoff, **state), references))
        self.has_charged = states.has_charged

    def __len__(self) -> int:
        return len(self.items)

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur."""
        return sorted({z for structure, _ in self.items for z in structure.numbers.tolist()})

    def __getitem__(self, index: int) -> tuple[Structure, References]:
        return self.items[index]


def _reference(label: str, value: NDArray[np.float64] | None, n_atoms: int) -> Tensor:
    """A label in the shape of the model's result, NaN where a frame has none."""
    n_rows = n_atoms if label in ("forces", "bec") else 1
    shape = {"energy": (), "stress": (3, 3), "bec": (3, 3)}.get(label, (3,))
    if value is None:
        return torch.full((n_rows, *shape), torch.nan, dtype=torch.float64)
    if label == "stress":
        value = voigt_6_to_full_3x3_stress(value)
    return torch.as_tensor(value).reshape(n_rows, *shape)


def collate_labelled(items: Sequence[tuple[Structure, References]]) -> tuple[Batch, References]:
    """One batch of items of :class:`LabelledStructures`."""
    references = {label: torch.cat([values[label] for _, values in items]) for label in items[0][1]}
    return collate([structure for structure, _ in items]), references


def compare(
    model: nn.Module,
    item: tuple[Batch, References],
    charges: ChargeStatistics | None = None,
    *,
    with_forces: bool = True,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Predictions and references of the structures that have them.

    Charges of all structures are counted in ``charges``, if these are given.

    Energies are per atom [eV], forces in [eV/A], stress in [eV/A^3], Born effective charges in [e]
    and dipoles in [e A].
    """
    assert isinstance(model, CACE)
    parameter = model.representation.sender_embedding
    batch, references = item
    if not with_forces:
        references = {"energy": references["energy"]}
    present = {label: ~torch.isnan(reference) for label, reference in references.items()}
    labels = [label for label, each in present.items() if each.any()]
    out = model(
        batch.to(parameter.device, parameter.dtype),
        compute_forces="forces" in labels,
        compute_stress="stress" in labels,
        compute_bec="bec" in labels,
    )
    if charges is not None and "latent_charges" in out:
        found = out.get("charges", out["latent_charges"])  # the latter of several channels
        charges.add(found, batch.batch, out["les_energy"])
    pairs = {}
    for label in labels:
        expected = references[label].to(parameter.device)
        predicted = out[RESULTS.get(label, label)]
        if label == "energy":
            n_atoms = torch.bincount(batch.batch).to(expected)
            expected, predicted = expected / n_atoms, predicted / n_atoms
        if not present[label].all():
            chosen = present[label].to(parameter.device)
            expected, predicted = expected[chosen], predicted[chosen]
        pairs[label] = (predicted, expected.to(predicted.dtype))
    return pairs
