"""Born effective charges of a MACE model, from the graph of its evaluation."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor

from les import Edges
from les.equilibration import refuse_periodic_response
from les.induced import refuse_periodic_response_of_charges
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import born_effective_charges_of_dipoles
from les.response.born import born_charges_of_model
from les.structures import Structures
from les_mace.edges import recorded_edges


def with_born_charges(
    model: Any, data: dict[str, Tensor], training: bool, need_strain: bool
) -> tuple[dict[str, Tensor | None], Tensor, Tensor | None]:
    """What ``model.short_range`` returns, charges, and their Born effective charges.

    The last ones are ``None`` where charges respond, with ``charge_equilibration`` and
    ``use_induced_charge``: they are those of the charges that follow from these.

    Args:
        model: a ``MACELES``.
        data: its input.
        training: whether the result is trained on.
        need_strain: whether the input is strained.

    Raises:
        ValueError: for periodic structures with ``charge_equilibration`` and without fragments, and
            for a model of which it is not known where features go from atom to atom.
    """
    equilibrated, fragment = model.les.charge_equilibration, model.charge_sums(data).fragment
    if equilibrated:
        refuse_periodic_response(data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3), fragment)
    responds = equilibrated or model.les.config().use_induced_charge
    exact = model.bec_method == "exact" and not responds and fragment is None
    recording = recorded_edges(model, data["edge_index"]) if exact else contextlib.nullcontext()
    with recording as edges:
        out = model.short_range(
            data, training=training, compute_force=False, compute_displacement=need_strain
        )
    charges = model.raw_charges(out["node_feats"], data)
    if responds:
        return out, charges, None
    found = None if edges is None else edges()
    return out, charges, born_charges(model, charges, data, training, found)


def born_charges(
    model: Any,
    charges: Tensor,
    data: dict[str, Tensor],
    training: bool,
    edges: Edges | None = None,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e], or the one component that is kept.

    Args:
        model, data, training: as above.
        charges: ``[n_atoms]`` [e].
        edges: the graph that they come from, where it is needed.
    """
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    structures = Structures(data["positions"], cell, data["batch"], pbc)
    les, sums = model.les, model.charge_sums(data)
    settings = BornSettings(les.remove_mean, les.epsilon_factor, training or model.training)
    bec = born_charges_of_model(charges, structures, sums, settings, model.bec_method, edges)
    index = model.bec_output_index
    return bec if index is None else bec[:, index]


def born_charges_of_moments(
    model: Any,
    bec: Tensor | None,
    moments: dict[str, Tensor | None],
    data: dict[str, Tensor],
    training: bool,
) -> Tensor:
    """Those of charges and dipoles together, ``[n_atoms, 3, 3]`` or the one component.

    Args:
        model, data, training: as above.
        bec: those of the charges that are read; ``None`` of charges that respond.
        moments: what ``les.Les`` returned.

    Raises:
        ValueError: for exact ones of periodic structures whose charges respond.
    """
    if bec is None:
        charges = moments["raw_charges"]
        assert charges is not None
        if model.bec_method == "exact":
            refuse_periodic_response_of_charges(data["pbc"].view(-1, 3))
        bec = born_charges(model, charges, data, training)
    dipoles, index = moments["latent_dipoles"], model.bec_output_index
    if dipoles is None:
        return bec
    create_graph = training or model.training
    of_dipoles = born_effective_charges_of_dipoles(
        dipoles, data["positions"], model.les.epsilon_factor, create_graph
    )
    return bec + (of_dipoles if index is None else of_dipoles[:, index])
