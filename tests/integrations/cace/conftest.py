"""Small models of CACE, and models with published weights given as plain arrays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

#: Its modules are no package: the plain evaluation that the tests compare with is there.
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "cace"))

#: Arguments of a small representation for H and O.
SMALL = {
    "zs": [1, 8],
    "n_atom_basis": 2,
    "cutoff": 4.0,
    "n_rbf": 4,
    "n_radial_basis": 3,
    "max_l": 3,
    "max_nu": 3,
    "num_message_passing": 1,
}


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Arguments of a small representation for H and O."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def representation_from() -> Callable[..., Any]:
    """A function that makes a representation from arrays in the published layout.

    ``settings`` and ``weights`` look up the names of hyperparameters and of weights.
    """
    from les_cace import Representation

    def make(settings: Callable[[str], Any], weights: Callable[[str], Any]) -> Representation:
        n_layers = int(settings("num_message_passing"))
        kinds = str(settings("message_types")).split(",") if n_layers else []
        arguments = {
            "zs": [int(z) for z in settings("zs")],
            "cutoff": float(settings("cutoff")),
            "num_message_passing": n_layers,
            "message_types": kinds,
            "avg_num_neighbors": float(settings("mp_norm_factor")) ** -2,
            "cutoff_exponent": int(weights("cutoff_fn.p")),
            "embed_receiver_nodes": bool(settings("embed_receiver_nodes")),
        }
        for name in ("n_atom_basis", "n_rbf", "n_radial_basis", "max_l", "max_nu"):
            arguments[name] = int(settings(name))
        if "Bchi" in kinds:
            network = "message_passing_list.0.2.hnet.{}.linear.weight"
            hidden = int(settings("Bchi.n_layers")) - 1
            arguments["message_hidden"] = [
                weights(network.format(layer)).shape[0] for layer in range(hidden)
            ]
            arguments["shared_channels"] = bool(settings("Bchi.shared_channels"))
            arguments["shared_degrees"] = bool(settings("Bchi.shared_l"))
        representation = Representation(**arguments).double()
        with torch.no_grad():
            _copy(representation, weights)
        return representation

    return make


def _copy(representation: Any, weights: Callable[[str], Any]) -> None:
    def fill(target: torch.Tensor, name: str) -> None:
        target.copy_(torch.as_tensor(np.asarray(weights(name), dtype=np.float64)))

    embedding = "node_embedding_{}.embedding_weights"
    fill(representation.sender_embedding, embedding.format("sender"))
    if representation.receiver_embedding is not None:
        fill(representation.receiver_embedding, embedding.format("receiver"))
    fill(representation.radial_basis.frequencies, "radial_basis.bessel_weights")
    fill(representation.radial_basis.amplitude, "radial_basis.prefactor")
    for degree, mixing in enumerate(representation.mixing):
        fill(mixing, f"radial_transform.weights.{degree}")
    for t, layer in enumerate(representation.layers):
        prefix = f"message_passing_list.{t}."
        for degree in range(len(representation.mixing)):
            if layer.memory is not None:
                fill(layer.memory.coefficients[degree], f"{prefix}0.memory_coef.{degree}")
            if layer.radial is not None:
                fill(layer.radial.amplitudes[degree], f"{prefix}1.prefactor.{degree}")
                fill(layer.radial.decays[degree], f"{prefix}1.invr0.{degree}")
        if layer.weights is not None:
            linear = [x for x in layer.weights.network if isinstance(x, nn.Linear)]
            for number, target in enumerate(linear):
                fill(target.weight, f"{prefix}2.hnet.{number}.linear.weight")
                fill(target.bias, f"{prefix}2.hnet.{number}.linear.bias")
