"""Which structures are periodic: what the data say, checked against the configuration."""

from __future__ import annotations

from collections.abc import Callable

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


def refuse(bad: Tensor, problem: str) -> None:
    """Raise ``ValueError`` for the first of the ``bad`` structures ``[n_structures]``."""
    if bool(bad.any()):
        raise ValueError(f"structure {int(torch.nonzero(bad)[0])} of the batch {problem}")


def refuse_in_graph(bad: Tensor, problem: str) -> None:
    """As :func:`refuse`, when a captured graph runs; raises ``RuntimeError``."""
    torch._assert_async((~bad).all(), f"a structure {problem}")


def periodic_structures(
    data: AtomicDataDict.Type,
    cell: Tensor,
    setting: str,
    made_for: str,
    refuse: Callable[[Tensor, str], None],
) -> Tensor:
    """Periodic structures of a batch, ``[n_structures]``, boolean.

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
            have one or two periodic axes, or do not tell what they are, and the problem.
    """
    pbc = data.get(AtomicDataDict.PBC_KEY)
    if pbc is not None:
        pbc = pbc.view(-1, 3)
        periodic = pbc.all(dim=1)
        refuse(
            pbc.any(dim=1) & ~periodic,
            "has one or two periodic axes: slabs and wires are not supported yet; for a slab "
            "with enough vacuum set pbc to true along all axes",
        )
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
    if made_for == "periodic":
        refuse(~periodic, "is open, but this LES model is for periodic ones (`boundary`)")
    if made_for == "open":
        refuse(periodic, "is periodic, but this LES model is for open ones (`boundary`)")
    return periodic
