"""Structures as tensors: one by one, with their pairs of atoms, and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from ase.geometry import complete_cell
from torch import Tensor

from les.fragments import joined_fragments
from les.neighbours import Places
from les.structures import ChargeSums, Structures
from les_cace.neighbours import Neighbours, arrange

if TYPE_CHECKING:
    from ase import Atoms

    from les.data.fragments import Fragments
    from les.neighbours import VerletList


class Structure(NamedTuple):
    """One structure and its pairs of atoms within a cutoff."""

    positions: Tensor  # [n_atoms, 3] [A]
    numbers: Tensor  # [n_atoms]
    cell: Tensor  # [3, 3] [A]
    pbc: Tensor  # [3], boolean
    sender: Tensor  # [n_pairs]
    receiver: Tensor  # [n_pairs]
    images: Tensor  # [n_pairs, 3], from the receiver's cell to the image of the sender
    total_charge: float = 0.0  # [e]
    spin: float = 1.0  # multiplicity
    fragments: Fragments | None = None


class Batch(NamedTuple):
    """Input of ``les_cace.CACE``, one structure after the other."""

    positions: Tensor  # [n_atoms, 3] [A]
    numbers: Tensor  # [n_atoms]
    cell: Tensor  # [n_structures, 3, 3] [A]
    pbc: Tensor  # [n_structures, 3], boolean
    batch: Tensor  # [n_atoms]
    neighbours: Neighbours
    total_charge: Tensor  # [n_structures] [e]
    spin: Tensor  # [n_structures], multiplicities
    fragment: Tensor | None = None  # [n_atoms], labels
    fragment_charge: Tensor | None = None  # [n_atoms] [e]

    @property
    def structures(self) -> Structures:
        """Where the atoms are."""
        return Structures(self.positions, self.cell, self.batch, self.pbc)

    @property
    def sums(self) -> ChargeSums:
        """What the charges of structures and fragments sum to."""
        return ChargeSums(self.total_charge, self.fragment, self.fragment_charge)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Batch:
        """On another device, with coordinates in ``dtype``."""
        neighbours = self.neighbours
        return Batch(
            self.positions.to(device, dtype),
            self.numbers.to(device),
            self.cell.to(device, dtype),
            self.pbc.to(device),
            self.batch.to(device),
            Neighbours(
                neighbours.sender.to(device),
                neighbours.images.to(device, dtype),
                neighbours.present.to(device),
            ),
            self.total_charge.to(device),
            self.spin.to(device),
            None if self.fragment is None else self.fragment.to(device),
            None if self.fragment_charge is None else self.fragment_charge.to(device),
        )


def to_structure(
    atoms: Atoms,
    cutoff: float,
    total_charge: float = 0.0,
    spin: float = 1.0,
    fragments: Fragments | None = None,
    neighbours: VerletList | None = None,
) -> Structure:
    """Tensors of ``atoms``, float64, and pairs with all images within ``cutoff`` [A].

    Without pbc there are no images, whatever the cell. ``total_charge`` [e], ``spin``, a
    multiplicity, and ``fragments`` are those of a model which uses them. ``neighbours`` are those
    that were kept from the step before; without them they are searched for.
    """
    from matscipy.neighbours import neighbour_list  # finds pairs on the first call, not on import

    searched = atoms.copy()
    if not atoms.pbc.any():  # a box around the molecule; its own may be missing or too small
        searched.set_cell(np.diag(np.ptp(atoms.positions, axis=0) + 1.0))
        searched.positions -= atoms.positions.min(axis=0)
    elif not atoms.pbc.all():  # the vectors of open axes do not matter, and may be missing
        searched.set_cell(complete_cell(atoms.cell * atoms.pbc[:, None]))

    def search(radius: float) -> Any:
        return neighbour_list("ijS", searched, radius)

    if neighbours is None:
        receiver, sender, images = search(cutoff)
    else:
        places = Places(atoms.positions, atoms.cell[:], atoms.pbc)
        receiver, sender, images, _ = neighbours.pairs(places, cutoff, search)
    return Structure(
        torch.as_tensor(atoms.positions, dtype=torch.float64),
        torch.as_tensor(atoms.numbers, dtype=torch.long),
        torch.as_tensor(atoms.cell[:], dtype=torch.float64),
        torch.as_tensor(atoms.pbc),
        torch.as_tensor(sender, dtype=torch.long),
        torch.as_tensor(receiver, dtype=torch.long),
        # From matscipy's r_j + S H - r_i to our r_i - r_j + n H.
        torch.as_tensor(-images, dtype=torch.float64),
        total_charge,
        spin,
        fragments,
    )


def collate(structures: Sequence[Structure]) -> Batch:
    """One batch of ``structures``."""
    sizes = torch.tensor([len(x.numbers) for x in structures])
    first = torch.cumsum(sizes, 0) - sizes
    n_atoms = int(sizes.sum())
    neighbours = arrange(
        torch.cat([x.sender + start for x, start in zip(structures, first)]),
        torch.cat([x.receiver + start for x, start in zip(structures, first)]),
        torch.cat([x.images for x in structures]),
        n_atoms,
    )
    return Batch(
        torch.cat([x.positions for x in structures]),
        torch.cat([x.numbers for x in structures]),
        torch.stack([x.cell for x in structures]),
        torch.stack([x.pbc for x in structures]),
        torch.repeat_interleave(torch.arange(len(structures)), sizes),
        neighbours,
        torch.tensor([x.total_charge for x in structures], dtype=torch.float64),
        torch.tensor([x.spin for x in structures], dtype=torch.float64),
        *joined_fragments(
            [x.fragments for x in structures],
            sizes.tolist(),
            [x.total_charge for x in structures],
        ),
    )
