"""External fields of structures: what they do to the charges of periodic ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from les.in_field import field_on_crystals, pulled
from les.response.arguments import BornSettings
from les.response.born import born_charges_of_model
from les.structures import Structures
from les_mace.born import born_charges
from les_mace.edges import recorded_edges


def field_of(model: Any, data: dict[str, Tensor], field: Tensor) -> Tensor | None:
    """What ``les.in_field.field_on_crystals`` returns for the input ``data`` of a ``MACELES``."""
    responds = model.les.charge_equilibration or model.les.config().use_induced_charge
    return field_on_crystals(field, _structures(data), charges_respond=responds)


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
        field: what :func:`field_of` returned.

    Returns:
        The last is what ``les.in_field.pulled`` returns.
    """
    with recorded_edges(model, data["edge_index"]) as edges:
        out = model.short_range(
            data, training=training, compute_force=False, compute_displacement=need_strain
        )
    charges, sums = model.raw_charges(out["node_feats"], data), model.charge_sums(data)
    settings = BornSettings(
        model.les.remove_mean, model.les.epsilon_factor, training or model.training
    )
    graph = edges() if sums.fragment is None else None
    exact = born_charges_of_model(charges, _structures(data), sums, settings, edges=graph)
    bec = None
    if compute_bec and model.bec_method != "exact":
        bec = born_charges(model, charges, data, training)
    elif compute_bec:
        index = model.bec_output_index
        bec = exact if index is None else exact[:, index]
    return out, charges, bec, pulled(data["positions"], field, exact)


def _structures(data: dict[str, Tensor]) -> Structures:
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    return Structures(data["positions"], cell, data["batch"], pbc)
