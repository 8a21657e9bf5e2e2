"""The arguments of Born effective charges, checked and completed."""

# No postponed annotations: TorchScript takes the types of a NamedTuple from them.

from typing import NamedTuple

import torch
from torch import Tensor

from les.neutrality import check_total_charge
from les.response.dipoles import check_epsilon_factor, single_channel
from les.structures import Structures
from les.sums.checks import (
    as_indices,
    check_batch,
    check_cell,
    check_charges,
    check_pbc,
    check_positions,
    check_tensors,
    has_volume,
    is_compiling,
    open_cells,
)


class BornSettings(NamedTuple):
    """How Born effective charges follow from latent charges.

    Attributes:
        remove_mean: subtract the mean charge of each structure first.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable, to train on it.
    """

    remove_mean: bool
    epsilon_factor: float
    create_graph: bool


def response_arguments(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor | None,
    batch: Tensor | None,
    pbc: Tensor | None,
) -> tuple[Tensor, Structures]:
    """Arguments of ``les.born_effective_charges``, after a check, with nothing left out.

    Returns:
        ``charges`` ``[n_atoms]``, and the structures, with ``pbc``.
    """
    if not torch.jit.is_scripting():
        check_tensors(charges=charges, positions=positions)
        check_tensors(True, cell=cell, batch=batch, pbc=pbc)
    if cell is None:
        cell = open_cells(positions, batch, pbc)
    batch = as_indices(batch)
    if not is_compiling():  # there are no values to look at then
        check_positions(positions)
        check_charges("charges", charges, positions)
        check_cell(cell, positions)
        check_batch(batch, positions.shape[0], cell.shape[0], positions.device)
        check_pbc(pbc, cell)
    if batch is None:
        batch = torch.zeros(positions.shape[0], dtype=torch.long, device=positions.device)
    periodic = has_volume(cell).unsqueeze(1).expand(-1, 3) if pbc is None else pbc
    return single_channel(charges), Structures(positions, cell, batch, periodic)


def check_settings(
    settings: BornSettings, total_charge: Tensor | None, charges: Tensor, n_structures: int
) -> None:
    """Check settings, and the ``total_charge`` ``[n_structures]`` [e] that they go with.

    Raises:
        ValueError, TypeError: as ``les.born_effective_charges``.
    """
    if not is_compiling():
        check_epsilon_factor(settings.epsilon_factor)
    if total_charge is not None and not settings.remove_mean:
        raise ValueError("`total_charge` needs `remove_mean`, got it with `remove_mean` false")
    check_total_charge(total_charge, charges, n_structures)


def check_gradients(positions: Tensor) -> None:
    """Raise ``ValueError`` for ``positions`` that nothing can be differentiated by."""
    if not positions.requires_grad:
        raise ValueError("`positions` must require gradients for Born effective charges")
