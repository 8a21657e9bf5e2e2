"""Features of e3nn's layers by how they turn, for readouts of moments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from les.moment_readout import FeatureCounts, Features

#: Degree and parity of scalars, vectors and tensors: 0e, 1o and 2e.
KINDS = ((0, 1), (1, -1), (2, 1))


def feature_counts(irreps: Iterable[Any]) -> FeatureCounts:
    """How many features there are of each kind in layers with these ``o3.Irreps``.

    Others, such as pseudovectors (1e), are left out: no moment that LES has turns like them.
    """
    counts = dict.fromkeys(KINDS, 0)
    for number, irrep in (pair for layer in irreps for pair in layer):
        if (irrep.l, irrep.p) in counts:
            counts[irrep.l, irrep.p] += number
    return FeatureCounts(*counts.values())


def joined_features(layers: Sequence[Tensor], irreps: Iterable[Any]) -> Features:
    """The features of several layers together.

    Args:
        layers: ``[n_atoms, n]`` each, all copies of one irrep after another, as e3nn has them.
        irreps: the ``o3.Irreps`` of each.
    """
    n_atoms = len(layers[0])
    # Some kinds may be in no layer.
    found = {kind: [layers[0].new_zeros(n_atoms, 0, 2 * kind[0] + 1)] for kind in KINDS}
    for features, layer in zip(layers, irreps, strict=True):
        for (number, irrep), place in zip(layer, layer.slices(), strict=True):
            if (irrep.l, irrep.p) in found:
                values = features[:, place].reshape(n_atoms, number, 2 * irrep.l + 1)
                found[irrep.l, irrep.p].append(values)
    scalars, vectors, tensors = (torch.cat(values, dim=1) for values in found.values())
    return Features(scalars.squeeze(2), vectors, tensors)
