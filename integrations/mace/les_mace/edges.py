"""Where MACE carries features from atom to atom, for exact Born effective charges."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mace.modules import blocks
from mace.modules.models import MACE
from torch import Tensor

from les import Carried, Edges

#: Interactions whose only features from other atoms are the first argument of ``conv_tp``.
KNOWN_INTERACTIONS = (
    blocks.RealAgnosticInteractionBlock,
    blocks.RealAgnosticResidualInteractionBlock,
    blocks.RealAgnosticDensityInteractionBlock,
    blocks.RealAgnosticDensityResidualInteractionBlock,
    blocks.RealAgnosticResidualNonLinearInteractionBlock,
)


@contextlib.contextmanager
def recorded_edges(model: MACE, edge_index: Tensor) -> Iterator[Callable[[], Edges]]:
    """Record where features go from atom to atom while ``model`` is evaluated once.

    Args:
        model: the model.
        edge_index: ``[2, n_edges]``, senders and receivers.

    Yields:
        A function that returns the edges of the evaluation.

    Raises:
        ValueError: for an interaction of which it is not known where it gathers features.
    """
    for interaction in model.interactions:
        fused = getattr(interaction, "conv_fusion", None)
        if type(interaction) not in KNOWN_INTERACTIONS or fused:
            name = type(interaction).__name__ + " with fused convolutions" * bool(fused)
            raise ValueError(
                f"exact Born effective charges are not available for a MACE model with {name}: it "
                "is not known where it takes features from other atoms; the published "
                "approximation is, with bec='phase'"
            )
    vectors: list[Tensor] = []
    gathered: list[Tensor] = []

    def keep_in(kept: list[Tensor]) -> Callable[[torch.nn.Module, Any], None]:
        return lambda module, arguments: kept.append(arguments[0])

    handles = [model.spherical_harmonics.register_forward_pre_hook(keep_in(vectors))]
    for interaction in model.interactions:
        handles.append(interaction.conv_tp.register_forward_pre_hook(keep_in(gathered)))

    def edges() -> Edges:
        (vector,) = vectors
        carried = [Carried(features, vector) for features in gathered]
        return Edges(vector, edge_index[0], edge_index[1], carried)

    try:
        yield edges
    finally:
        for handle in handles:
            handle.remove()
