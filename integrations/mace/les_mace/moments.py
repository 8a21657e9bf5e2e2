"""Moments of atoms, read off the features of all layers of a MACE model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from les.backends.equivariant_features import feature_counts, joined_features
from les.config import LESConfig
from les.moment_readout import MomentReadout, ReadMoments


def moment_readout(model: Any, config: LESConfig) -> MomentReadout | None:
    """What reads moments, if ``config`` asks for any.

    Raises:
        ValueError: as ``les.moment_readout.MomentReadout``, and for a model with several heads.
    """
    readout = MomentReadout.of(config, feature_counts(_irreps(model)))
    if readout is not None and len(model.heads) > 1:
        raise ValueError(
            "dipoles, quadrupoles and induced moments need a model with one head, this has "
            f"{', '.join(model.heads)}"
        )
    return readout


def read_moments(model: Any, node_feats: Tensor | None) -> ReadMoments:
    """Moments and responses of the atoms.

    Args:
        model: a ``MACELES``, whose last readout of charges may be one of moments.
        node_feats: upstream's features of all layers ``[n_atoms, n]``.
    """
    readout = model.les_readouts[-1]
    if node_feats is None or not isinstance(readout, MomentReadout):
        return ReadMoments()
    layers = torch.split(node_feats, model.layer_widths, dim=-1)
    moments: ReadMoments = readout(joined_features(layers, _irreps(model)))
    return moments


def _irreps(model: Any) -> list[Any]:
    return [product.linear.irreps_out for product in model.products]
