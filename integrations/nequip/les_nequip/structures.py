"""Where the atoms of upstream's data are, and what their charges sum to."""

from __future__ import annotations

import torch
from nequip.data import AtomicDataDict

from les.fragments import told_fragments
from les.structures import ChargeSums, Structures
from les_nequip.boundary import periodic_axes, refuse, refuse_in_graph
from les_nequip.keys import FRAGMENT_CHARGE_KEY, FRAGMENT_KEY, TOTAL_CHARGE_KEY
from les_nequip.reach import Reach


def structures_of(
    data: AtomicDataDict.Type, reach: Reach, *, tracing: bool, exporting: bool
) -> Structures:
    """Where the atoms of the data are, with the periodic axes of their structures.

    Args:
        data: the input of the model.
        reach: what the model is made for.
        tracing: whether a graph is being captured, in which values are not known.
        exporting: whether ``nequip-compile`` runs. It compares its graph with an evaluation, whose
            input may lack ``pbc``, so that both are for the same structures.

    Raises:
        ValueError: for structures that contradict the configuration; ``RuntimeError`` when a
            captured graph runs.
    """
    positions = data[AtomicDataDict.POSITIONS_KEY]
    cell = data.get(AtomicDataDict.CELL_KEY)
    if cell is None:
        cell = positions.new_zeros([AtomicDataDict.num_frames(data), 3, 3])
    cell = cell.view(-1, 3, 3).to(positions.dtype)
    batch = data.get(AtomicDataDict.BATCH_KEY)
    if batch is None:
        batch = torch.zeros_like(positions[:, 0], dtype=torch.long)
    compiled = tracing or exporting
    boundary = reach.boundary() if compiled else reach.setting
    slabs = not compiled or reach.slabs(AtomicDataDict.PBC_KEY in data)
    refusal = refuse_in_graph if tracing else refuse
    pbc = periodic_axes(data, cell, reach.setting, boundary, refusal, slabs=slabs)
    return Structures(positions, cell, batch, pbc)


def sums_of(data: AtomicDataDict.Type, *, tracing: bool) -> ChargeSums:
    """What charges sum to, as far as the data tell it.

    Args:
        data, tracing: as for :func:`structures_of`.
    """
    keys = (TOTAL_CHARGE_KEY, FRAGMENT_KEY, FRAGMENT_CHARGE_KEY)
    total, *parts = (data[key].view(-1) if key in data else None for key in keys)
    return ChargeSums(total, *(parts if tracing else told_fragments(*parts)))
