"""Born effective charges of a MACE model, from the graph of its evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from les import Edges
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import with_dipoles
from les.response.born import born_charges_of_model, needs_edges
from les.structures import Structures
from les_mace.edges import recorded_edges


def short_range_on_edges(
    model: Any,
    data: dict[str, Tensor],
    training: bool,
    need_strain: bool,
    methods: Collection[str],
) -> tuple[dict[str, Tensor | None], Edges | None]:
    """What ``model.short_range`` returns, and the graph along which its charges depend on atoms.

    Args:
        model: a ``MACELES``.
        data: its input.
        training: whether the result is trained on.
        need_strain: whether the input is strained.
        methods: those by which Born effective charges are evaluated, of
            ``les.response.born.METHODS``. There is no graph where none needs it.

    Raises:
        ValueError: as :func:`les.response.born.needs_edges`, and for a model of which it is not
            known where features go from atom to atom.
    """
    recording: Any = contextlib.nullcontext()
    if methods:
        config, structures, sums = model.les.config(), structures_of(data), model.charge_sums(data)
        if any(needs_edges(config, method, structures, sums) for method in methods):
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
    bec = born_charges_of_charges(model, found, data, training, edges, model.bec_method)
    settings, index = _settings(model, training), model.bec_output_index
    bec = with_dipoles(bec, found["latent_dipoles"], data["positions"], settings)
    return bec if index is None else bec[:, index]


def born_charges_of_charges(
    model: Any,
    found: Mapping[str, Tensor | None],
    data: dict[str, Tensor],
    training: bool,
    edges: Edges | None,
    method: str,
) -> Tensor:
    """Those of the charges alone, without the dipoles of atoms ``[n_atoms, 3, 3]`` [e].

    Args:
        model, found, data, training, edges: as above.
        method: one of ``les.response.born.METHODS``.
    """
    charges = found["raw_charges"]
    assert charges is not None
    structures, sums = structures_of(data), model.charge_sums(data)
    graph = edges if method == "exact" else None
    settings = _settings(model, training)
    return born_charges_of_model(charges, structures, sums, settings, method, graph)


def _settings(model: Any, training: bool) -> BornSettings:
    les = model.les
    return BornSettings(les.remove_mean, les.epsilon_factor, training or model.training)


def structures_of(data: dict[str, Tensor]) -> Structures:
    """Where the atoms of a model's input ``data`` are."""
    cell, pbc = data["cell"].view(-1, 3, 3), data["pbc"].view(-1, 3)
    return Structures(data["positions"], cell, data["batch"], pbc)
