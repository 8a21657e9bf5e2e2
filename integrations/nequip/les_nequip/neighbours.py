"""Neighbours that are kept from step to step, in the place of upstream's search for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from nequip.data import AtomicDataDict, compute_neighborlist_
from nequip.data._nl import NEIGHBORLIST_BACKEND_OPTIONS
from nequip.data.transforms import NeighborListTransform

from les.neighbours import Places, Search, VerletList


class KeptNeighbours(NeighborListTransform):
    """``NeighborListTransform`` that searches only when it has to.

    Args:
        transform: the one that it takes the place of.
        neighbours: those that are kept.
    """

    def __init__(self, transform: NeighborListTransform, neighbours: VerletList) -> None:
        super().__init__(
            transform.r_max,
            transform.per_edge_type_cutoff,
            transform.type_names,
            transform.backend,
            transform.backend_kwargs,
        )
        self.neighbours = neighbours

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        positions = data[AtomicDataDict.POSITIONS_KEY]
        cell, pbc = data.get(AtomicDataDict.CELL_KEY), data.get(AtomicDataDict.PBC_KEY)
        places = Places(
            positions.numpy(),
            np.zeros((3, 3)) if cell is None else cell.reshape(3, 3).numpy(),
            np.zeros(3, dtype=bool) if pbc is None else pbc.reshape(3).numpy(),
        )
        first, second, images, _ = self.neighbours.pairs(places, self.r_max, self._search(data))
        data[AtomicDataDict.EDGE_INDEX_KEY] = torch.stack(
            (torch.from_numpy(first), torch.from_numpy(second))
        )
        if cell is not None:
            data[AtomicDataDict.EDGE_CELL_SHIFT_KEY] = torch.from_numpy(images).to(positions)
        return data if self._pruner is None else self._pruner(data)

    def _search(self, data: AtomicDataDict.Type) -> Search:
        """Upstream's search, for one structure."""

        def search(radius: float) -> Any:
            found = compute_neighborlist_(
                dict(data), radius, backend=self.backend, backend_kwargs=self.backend_kwargs
            )
            first, second = found[AtomicDataDict.EDGE_INDEX_KEY].numpy()
            images = found.get(AtomicDataDict.EDGE_CELL_SHIFT_KEY)
            return first, second, np.zeros((len(first), 3)) if images is None else images.numpy()

        return search


def keeping(transforms: Sequence[Any], neighbours: VerletList) -> list[Callable[..., Any]]:
    """``transforms``, of which that which finds neighbours keeps them.

    Not so a search that can run on a GPU, where pairs are cheap and their number may be limited,
    and one that does more than upstream's own ``NeighborListTransform``.
    """
    return [
        KeptNeighbours(each, neighbours)
        if type(each) in (NeighborListTransform, KeptNeighbours)  # that of another calculator
        and not NEIGHBORLIST_BACKEND_OPTIONS[each.backend].supports_cuda
        else each
        for each in transforms
    ]
