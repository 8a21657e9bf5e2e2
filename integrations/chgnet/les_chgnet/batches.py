"""What upstream's batches of graphs do not pass on: cells, periodic axes, and charge states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from chgnet.graph import CrystalGraph
from chgnet.model.model import BatchedGraph
from torch import Tensor

from les.structures import ChargeSums, Structures
from les_chgnet.graphs import fragments_of, periodic_axes, total_charges


class GraphBatch(NamedTuple):
    """Where the atoms of a batch are, and what their charges sum to.

    Attributes:
        structures: strained ones, with positions that upstream's are parts of.
        sums: as far as the model uses them.
    """

    structures: Structures
    sums: ChargeSums


def batch_of(
    graphs: Sequence[CrystalGraph], batched: BatchedGraph, uses_total_charge: bool
) -> GraphBatch:
    """What the ``graphs`` of upstream's batch tell.

    Args:
        graphs: one for each structure.
        batched: upstream's batch of them.
        uses_total_charge: whether the model's charges sum to the total charge of a structure.
    """
    cells = []
    for graph, strain in zip(graphs, batched.strains):
        deformation = 0.0 if strain is None else graph.lattice @ strain
        cells.append(graph.lattice + deformation)
    positions = torch.cat(list(batched.atom_positions))
    total_charge: Tensor | None = None
    if uses_total_charge:
        total_charge = total_charges(graphs).to(positions.device)
    of_fragments = (x if x is None else x.to(positions.device) for x in fragments_of(graphs))
    pbc = torch.stack([periodic_axes(graph) for graph in graphs])
    structures = Structures(positions, torch.stack(cells), batched.atom_owners.long(), pbc)
    return GraphBatch(structures, ChargeSums(total_charge, *of_fragments))
