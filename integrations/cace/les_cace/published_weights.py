"""Weights of published models, copied into ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from les.readout import AtomReadout
from les_cace.representation import Layer, Representation
from les_cace.stubs import Stub


def copy_representation(source: Stub, target: Representation) -> None:
    """Copy all weights of a representation; the settings are those of ``target`` already.

    Raises:
        ValueError: for weights of other shapes.
    """
    _copy(source.node_embedding_sender.embedding_weights, target.sender_embedding)
    if target.receiver_embedding is not None:
        _copy(source.node_embedding_receiver.embedding_weights, target.receiver_embedding)
    _copy(source.radial_basis.bessel_weights, target.radial_basis.frequencies)
    # As stored: it has been rounded to float32.
    _copy(source.radial_basis.prefactor, target.radial_basis.get_buffer("amplitude"))
    _copy_all(source.radial_transform.weights, target.mixing)
    for kinds, layer in zip(source.message_passing_list, target.layers):
        assert isinstance(layer, Layer)
        memory, radial, weights = kinds
        if layer.memory is not None:
            _copy_all(memory.memory_coef, layer.memory.coefficients)
        if layer.radial is not None:
            _copy_all(radial.prefactor, layer.radial.amplitudes)
            _copy_all(radial.invr0, layer.radial.decays)
        if layer.weights is not None:
            _copy_linear(weights.hnet, layer.weights.network)


def copy_readout(source: Stub, target: AtomReadout, weight: float = 1.0) -> None:
    """Copy a perceptron with its linear part; the output is multiplied by ``weight``.

    Raises:
        ValueError: for weights of other shapes.
    """
    _copy_linear(source.outnet, target.network)
    last = target.network[-1]
    assert isinstance(last, nn.Linear)
    if target.linear is not None:
        _copy(source.linear_nn.linear.weight, target.linear.weight)
        target.linear.weight.mul_(weight)
        if source.linear_nn.linear.bias is not None:
            last.bias.add_(source.linear_nn.linear.bias)  # one serves for both
    last.weight.mul_(weight)
    last.bias.mul_(weight)


def _copy_linear(sources: Any, network: nn.Sequential) -> None:
    targets = [layer for layer in network if isinstance(layer, nn.Linear)]
    for source, target in zip(sources, targets, strict=True):
        _copy(source.linear.weight, target.weight)
        if source.linear.bias is None:
            target.bias.zero_()
        else:
            _copy(source.linear.bias, target.bias)


def _copy_all(sources: Any, targets: nn.ParameterList) -> None:
    for source, target in zip(sources, targets, strict=True):
        _copy(source, target)


def _copy(source: Any, target: torch.Tensor) -> None:
    if source.shape != target.shape:
        raise ValueError(f"weights of the shape {list(target.shape)} expected, got {source.shape}")
    target.copy_(source)
