"""Moments of atoms, read off the vectors and tensors that NequIP's layers have before the last."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import torch
from e3nn.o3._irreps import Irreps  # as upstream: packages hold this module, and not all of e3nn
from nequip.data import AtomicDataDict
from torch import Tensor

from les.backends.equivariant_features import feature_counts, joined_features
from les.moment_readout import Features, MomentReadout, ReadMoments
from les_nequip.edges import module_name

#: Gives an atom features of all kinds, of which the next one keeps what it has a use for. By name,
#: because packages of nequip-package hold copies of the class.
LAYER: Final = ("nequip", "ConvNetLayer")

#: Begin of the names of the features of each layer in the data, on their way to LES.
KEPT: Final = "les_features_"


def add_readouts(model: torch.nn.Module) -> None:
    """Give each LES in ``model`` that reads moments its readout; once is enough.

    Raises:
        ValueError: as ``les.moment_readout.MomentReadout``.
    """
    modules: Iterator[Any] = model.modules()
    for les in modules:
        if not getattr(les, "is_les", False) or getattr(les, "moments", ...) is not None:
            continue
        layers = [each for each in model.modules() if module_name(each) == LAYER]
        kinds: list[Any] = [layer.irreps_out for layer in layers]
        irreps = [each[AtomicDataDict.NODE_FEATURES_KEY] for each in kinds]
        counts = feature_counts(irreps)._replace(scalars=les.config.n_features)
        readout = MomentReadout.of(les.config, counts)
        if readout is None:
            continue
        les.moments = readout.to(next(les.readout.parameters()))
        les.layer_irreps = [str(each) for each in irreps]
        for number, layer in enumerate(layers):
            layer.register_forward_hook(functools.partial(_keep, f"{KEPT}{number}"))


def _keep(name: str, layer: Any, arguments: Any, data: AtomicDataDict.Type) -> None:
    data[name] = data[AtomicDataDict.NODE_FEATURES_KEY]


def read_moments(
    les: Any, scalars: Tensor, types: Tensor, data: AtomicDataDict.Type
) -> ReadMoments:
    """What the module ``les`` reads of each atom, with what its element adds.

    Args:
        les: the module.
        scalars: the features that charges are read from.
        types: type of each atom ``[n_atoms]``.
        data: its input, from which the features of layers are taken out.

    Raises:
        ValueError: for a module that nequip has not built a model around.
    """
    if les.moments is None:
        raise ValueError(
            "moments of atoms need a model that nequip has built around LES: its readout depends "
            "on the features of all layers"
        )
    layers = [data.pop(f"{KEPT}{number}") for number in range(len(les.layer_irreps))]
    irreps = [Irreps(each) for each in les.layer_irreps]
    if layers:
        features = joined_features(layers, irreps)._replace(scalars=scalars)
    else:
        features = Features(scalars, scalars.new_zeros(0), scalars.new_zeros(0))
    read: ReadMoments = les.moments(features)
    moments = read.in_precision(data[AtomicDataDict.POSITIONS_KEY].dtype)
    if les.elements is None:
        return moments
    return moments._replace(alphas=les.elements.with_alphas(moments.alphas, types))
