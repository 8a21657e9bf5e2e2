"""Which structures are periodic: what the data say, checked against the configuration."""

from __future__ import annotations

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from les.checks import has_volume


def crosses_cell(data: AtomicDataDict.Type) -> Tensor:
    """Whether a structure has neighbours across a face of its cell, ``[n_structures]``."""
    n_structures = AtomicDataDict.num_frames(data)
    crossing = torch.zeros_like(data[AtomicDataDict.POSITIONS_KEY][:1, 0]).repeat(n_structures)
    if AtomicDataDict.EDGE_CELL_SHIFT_KEY not in data:
        return crossing > 0
    shifted = (data[AtomicDataDict.EDGE_CELL_SHIFT_KEY] != 0).any(dim=-1).to(crossing.dtype)
    if AtomicDataDict.BATCH_KEY in data:
        structure = data[AtomicDataDict.BATCH_KEY][data[AtomicDataDict.EDGE_INDEX_KEY][0]]
    else:
        structure = torch.zeros_like(shifted, dtype=torch.long)
    return crossing.index_add(0, structure, shifted) > 0


def periodic_structures(data: AtomicDataDict.Type, cell: Tensor, setting: str) -> Tensor:
    """Periodic structures of a batch, ``[n_structures]``, boolean.

    Without ``pbc`` in the data, neighbours across a face of the cell tell a periodic
    structure, and the absence of a cell an open one. A cell that no pair of neighbours
    crosses may be a box around a molecule as well as a dilute crystal.

    Args:
        data: the input of the model.
        cell: ``[n_structures, 3, 3]`` [A], zero where the data have none.
        setting: the configured boundary condition, see ``les_nequip.LES``.

    Raises:
        ValueError: if the data contradict the setting, do not decide where it is ``auto``,
            or have one or two periodic axes; the message names the structure in the batch.
    """
    pbc = data.get(AtomicDataDict.PBC_KEY)
    if pbc is not None:
        pbc = pbc.view(-1, 3)
        periodic = pbc.all(dim=1)
        _refuse(
            pbc.any(dim=1) & ~periodic,
            "has one or two periodic axes: slabs and wires are not supported yet; for a slab "
            "with enough vacuum set pbc to true along all axes",
        )
    else:
        spans = has_volume(cell)
        crosses = crosses_cell(data)
        if setting == "periodic":
            periodic = torch.ones_like(spans)
        elif setting == "open":
            periodic = crosses
        else:
            _refuse(
                spans & ~crosses,
                "has a cell that no two neighbours cross, and its data have no `pbc`: periodic "
                "structure, or molecule in a box? Set `boundary` of LES to 'periodic' or 'open'",
            )
            periodic = crosses
        _refuse(periodic & ~spans, "must have a cell to be periodic")
    if setting == "periodic":
        _refuse(~periodic, "is open, but `boundary` of LES is 'periodic'")
    if setting == "open":
        _refuse(periodic, "is periodic, but `boundary` of LES is 'open'")
    return periodic


def _refuse(bad: Tensor, problem: str) -> None:
    if bool(bad.any()):
        raise ValueError(f"structure {int(torch.nonzero(bad)[0])} of the batch {problem}")


def assert_boundary(data: AtomicDataDict.Type, cell: Tensor, setting: str, boundary: str) -> Tensor:
    """As :func:`periodic_structures`, inside a captured graph.

    Args:
        data, cell, setting: as for :func:`periodic_structures`.
        boundary: what the graph is made for, one of ``les.traceable.BOUNDARIES``.

    Raises:
        RuntimeError: when the graph runs on data that contradict ``boundary``.
    """
    pbc = data.get(AtomicDataDict.PBC_KEY)
    crosses = crosses_cell(data)
    if pbc is not None:
        periodic = pbc.view(-1, 3).all(dim=1)
        whole = ~(pbc.view(-1, 3).any(dim=1) & ~periodic)
        torch._assert_async(whole.all(), "LES supports no structures with one or two periodic axes")
    elif boundary == "mixed":
        periodic = has_volume(cell)
        torch._assert_async(
            (crosses | ~periodic).all(),
            "a structure has a cell that no two neighbours cross, and its data have no `pbc`: "
            "periodic structure, or molecule in a box?",
        )
    elif setting == "auto" or boundary == "open":
        periodic = crosses
    else:
        periodic = torch.ones_like(crosses)
    if boundary == "periodic":
        torch._assert_async(
            periodic.all(),
            "this LES model was compiled for periodic structures, and a structure is open or no "
            "two of its neighbours cross its cell; for others build it with `boundary` 'open', "
            "'mixed', or 'periodic' for cells that are mostly vacuum",
        )
    if boundary == "open":
        torch._assert_async(
            (~periodic).all(),
            "this LES model was compiled for open structures, and a structure is periodic",
        )
    return periodic
