"""Born effective charges of a MACE model, from the graph of its evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from les import Edges
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import with_dipoles
from les.response.born import born_charges_of_model, needs_edges
from les.structures import Structures
from les_mace.edges import recorded_edges


def short_range_on_edges(
    model: Any, data: dict[str, Tensor], training: bool, need_strain: bool, compute_bec: bool
) -> tuple[dict[str, Tensor | None], Edges | None]:
    """What ``model.short_range`` returns, and the graph along which its charges depend on atoms.

    Args:
        model: a ``MACELES``.
        data: its input.
        training: whether the result is trained on.
        need_strain: whether the input is strained.
        compute_bec: whether Born effective charges are asked for. There is no graph where they
            are not, or do not need it.

    Raises:
        ValueError: as :func:`les.response.born.needs_edges`, and for a model of which it is not
            known where features go from atom to atom.
    """
    recording: Any = contextlib.nullcontext()
    if compute_bec:
        structures, sums = _structures(data), model.charge_sums(data)
        if needs_edges(model.les.config(), model.bec_method, structures, sums):
            recording = recorded_edges(model, data["edge_index"])
    with recording as edges:
        out = model.short_range(
            data, training=training, compute_force=False, compute_displacement=need_strain
        )
    return out, None if edges is None else edges()


def born_charges(
    model: Any,
    found: Mapping[str, Tensor | None],
    data: dict[str, Tensor],
    training: bool,
    edges: Edges | None,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e], or the one component that is kept.

    Args:
        model, data, training: as above.
        found: what ``les.Les`` returned.
        edges: the graph that the charges come from, where it is needed.
    """
    charges, dipoles, index = found["raw_charges"], found["latent_dipoles"], model.bec_output_index
    assert charges is not None
    structures, sums = _structures(data), model.charge_sums(data)
    les = model.les
    settings = BornSettings(les.remove_mean, les.epsilon_factor, training or model.training)
    bec = born_charges_of_model(charges, structures, sums, settings, model.bec_method, edges)
    bec = with_dipoles(bec, dipoles, structures.positions, settings)
    return bec if index is None else bec[:, index]


def _structures(data: dict[str, Tensor]) -> Structures:
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    return Structures(data["positions"], cell, data["batch"], pbc)
