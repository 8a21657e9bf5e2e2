"""Which structures are periodic: what the data say, checked against the configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from les.sums.checks import has_volume


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


def refuse(bad: Tensor, problem: str) -> None:
    """Raise ``ValueError`` for the first of the ``bad`` structures ``[n_structures]``."""
    if bool(bad.any()):
        raise ValueError(f"structure {int(torch.nonzero(bad)[0])} of the batch {problem}")


def refuse_in_graph(bad: Tensor, problem: str) -> None:
    """As :func:`refuse`, when a captured graph runs; raises ``RuntimeError``."""
    torch._assert_async((~bad).all(), f"a structure {problem}")


def periodic_axes(
    data: AtomicDataDict.Type,
    cell: Tensor,
    setting: str,
    made_for: str,
    refuse: Callable[[Tensor, str], None],
    *,
    slabs: bool,
) -> Tensor:
    """Periodic axes of the structures of a batch, ``[n_structures, 3]``, boolean.

    Without ``pbc`` in the data, neighbours across a face of the cell tell a periodic
    structure, and the absence of a cell an open one. A cell that no pair of neighbours
    crosses may be a box around a molecule as well as a dilute crystal.

    Args:
        data: the input of the model.
        cell: ``[n_structures, 3, 3]`` [A], zero where the data have none.
        setting: the configured boundary condition, see ``les_nequip.LES``.
        made_for: the boundary condition that all structures must have, ``"periodic"`` or
            ``"open"``, if there is one.
        refuse: called with structures ``[n_structures]`` that contradict the configuration,
            have a number of periodic axes that is not supported, or do not tell what they are,
            and the problem.
        slabs: whether structures with two periodic axes are supported.
    """
    pbc = data.get(AtomicDataDict.PBC_KEY)
    if pbc is not None:
        pbc = pbc.view(-1, 3)
        periodic, n_axes = pbc.all(dim=1), pbc.sum(dim=1)
        refuse(n_axes == 1, "has one periodic axis: wires are not supported")
        if not slabs:
            refuse(
                n_axes == 2,
                "has two periodic axes: compiled models with LES take no slabs unless they had "
                "seen some, and for the settings 'auto' and 'mixed' of `boundary`; use the model "
                "as it was trained, or, with enough vacuum, set pbc to true along all axes",
            )
        elif setting in ("periodic", "open"):
            refuse(n_axes == 2, f"is a slab, but this LES model is for {setting} ones (`boundary`)")
    else:
        spans = has_volume(cell)
        periodic = torch.ones_like(spans) if setting == "periodic" else crosses_cell(data)
        if setting not in ("periodic", "open") and made_for != "open":
            refuse(
                spans & ~periodic,
                "has a cell that no two neighbours cross, and its data have no `pbc`: periodic "
                "structure, or molecule in a box? Set `boundary` of LES to 'periodic' or 'open'",
            )
        refuse(periodic & ~spans, "must have a cell to be periodic")
        pbc = periodic.unsqueeze(-1).expand(-1, 3)
    if made_for == "periodic":
        refuse(~pbc.any(dim=1), "is open, but this LES model is for periodic ones (`boundary`)")
    if made_for == "open":
        refuse(periodic, "is periodic, but this LES model is for open ones (`boundary`)")
    return pbc
