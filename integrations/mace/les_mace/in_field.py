"""External fields of structures: what they do to the charges of periodic ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.in_field import in_crystals, refuse_charges_that_flow
from les.response.arguments import BornSettings
from les.response.born import born_charges_of_model
from les.structures import Structures
from les_mace.born import born_charges
from les_mace.edges import recorded_edges


def field_on_crystals(model: Any, data: dict[str, Tensor], field: Tensor) -> Tensor | None:
    """The field at atoms of periodic structures ``[n_atoms, 3]`` [V/A], zero at others.

    Args:
        model: a ``MACELES``.
        data: its input.
        field: ``[n_graphs, 3]`` [V/A].

    Returns:
        ``None`` if no periodic structure is in a field.

    Raises:
        ValueError: for one whose charges respond to it.
    """
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    found = in_crystals(field, cell, pbc)
    if not bool(found.any()):
        return None
    if model.les.charge_equilibration or model.les.config().use_induced_charge:
        refuse_charges_that_flow(field, cell, pbc)
    return torch.where(found.unsqueeze(1), field, 0.0)[data["batch"]]


def with_pull(
    model: Any,
    data: dict[str, Tensor],
    training: bool,
    need_strain: bool,
    compute_bec: bool,
    field: Tensor,
) -> tuple[dict[str, Tensor | None], Tensor, Tensor | None, Tensor]:
    """What ``model.short_range`` returns, charges, their Born effective charges, and the pull.

    Args:
        model, data: as above.
        training: whether the result is trained on.
        need_strain: whether the input is strained.
        compute_bec: whether Born effective charges are asked for; ``None`` otherwise.
        field: what :func:`field_on_crystals` returned.

    Returns:
        The last are forces of the field on charges of periodic structures ``[n_atoms, 3]`` [eV/A].
        Those on other structures are in the derivatives of their energy.
    """
    with recorded_edges(model, data["edge_index"]) as edges:
        out = model.short_range(
            data, training=training, compute_force=False, compute_displacement=need_strain
        )
    charges, sums = model.raw_charges(out["node_feats"], data), model.charge_sums(data)
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    settings = BornSettings(
        model.les.remove_mean, model.les.epsilon_factor, training or model.training
    )
    graph = edges() if sums.fragment is None else None
    structures = Structures(data["positions"], cell, data["batch"], pbc)
    exact = born_charges_of_model(charges, structures, sums, settings, edges=graph)
    bec = None
    if compute_bec and model.bec_method != "exact":
        bec = born_charges(model, charges, data, training)
    elif compute_bec:
        index = model.bec_output_index
        bec = exact if index is None else exact[:, index]
    return out, charges, bec, torch.einsum("na,nab->nb", field, exact)
