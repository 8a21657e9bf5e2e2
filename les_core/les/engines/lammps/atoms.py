"""What LAMMPS has of a rank's atoms, its ghosts, and the box."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.sums.reduction import Reduction

#: Bits of the count of images along one axis, by LAMMPS's size of what all three are packed in
#: [bytes].
IMAGE_BITS = {4: 10, 8: 21}


class Box(NamedTuple):
    """The simulation box."""

    #: ``[3, 3]`` [A], rows are lattice vectors.
    cell: Tensor
    #: ``[3]``, boolean.
    pbc: Tensor

    @staticmethod
    def of(lmp: Any) -> Box:
        """That of ``lmp`` at this step."""
        low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
        a, b, c = (upper - lower for lower, upper in zip(low, high))
        cell = [[a, 0.0, 0.0], [xy, b, 0.0], [xz, yz, c]]
        pbc = [bool(axis) for axis in periodic]
        return Box(torch.tensor(cell, dtype=torch.float64), torch.tensor(pbc))


class Seen(NamedTuple):
    """The atoms that a rank sees: its own ones, and then ghosts."""

    n_own: int
    positions: NDArray[np.float64]  # [n_seen, 3] [A]
    types: NDArray[np.int64]  # [n_seen], from 1
    tags: NDArray[np.int64]  # [n_seen], from 1
    images: NDArray[np.int64]  # of own atoms [n_own, 3]

    @staticmethod
    def of(lmp: Any, n_own: int) -> Seen:
        """Those of this rank of ``lmp`` at this step.

        Raises:
            ValueError: for atoms without IDs.
        """
        n_seen = n_own + int(lmp.extract_global("nghost"))
        if n_seen == 0:
            none = np.zeros(0, dtype=np.int64)
            return Seen(0, np.zeros((0, 3)), none, none, np.zeros((0, 3), dtype=np.int64))

        def array(name: str, count: int) -> NDArray[Any]:
            return np.array(lmp.numpy.extract_atom(name, nelem=count))

        tags = array("id", n_seen).reshape(-1).astype(np.int64)
        if tags.min() < 1:
            raise ValueError("LAMMPS must have atoms with IDs, got `atom_modify id no`")
        packed = array("image", n_own).reshape(-1) if n_own else np.zeros(0, dtype=np.int64)
        return Seen(
            n_own,
            array("x", n_seen).reshape(-1, 3),
            array("type", n_seen).reshape(-1).astype(np.int64),
            tags,
            unpacked_images(packed, int(lmp.extract_setting("imageint"))),
        )

    def unwrapped(self, cell: Tensor) -> Tensor:
        """Positions of the own atoms ``[n_own, 3]`` [A], where they would be without wrapping."""
        places = torch.from_numpy(self.positions[: self.n_own])
        return places + torch.from_numpy(self.images).to(places.dtype) @ cell


def unpacked_images(packed: NDArray[Any], size: int) -> NDArray[np.int64]:
    """In which image of the box atoms are ``[n, 3]``.

    Args:
        packed: what LAMMPS packs the three counts of an atom in ``[n]``.
        size: LAMMPS's size of that [bytes], 4, or 8 where it is built with ``LAMMPS_BIGBIG``.
    """
    bits = IMAGE_BITS[size]
    fields = [packed.astype(np.int64) >> axis * bits & (1 << bits) - 1 for axis in range(3)]
    return np.stack(fields, axis=1) - (1 << bits - 1)


def by_tag(values: Tensor, tags: Tensor, largest: int, reduction: Reduction) -> Tensor:
    """Sums of ``values [n, ...]`` over all atoms of all ranks with the same tag.

    Args:
        values: this rank's.
        tags: of the atoms that these belong to ``[n]``, from 1.
        largest: the largest tag of all ranks.
        reduction: what adds up over the ranks.

    Returns:
        ``[largest + 1, ...]``, by tag.
    """
    whole = values.new_zeros([largest + 1, *values.shape[1:]]).index_add(0, tags, values)
    return reduction.sum(whole)


def largest_tag(tags: NDArray[np.int64], rank: int, size: int, reduction: Reduction) -> int:
    """The largest tag of all ranks."""
    of_ranks = torch.zeros(size, dtype=torch.float64)
    of_ranks[rank] = float(tags.max()) if len(tags) else 0.0
    return int(reduction.sum(of_ranks).max())
