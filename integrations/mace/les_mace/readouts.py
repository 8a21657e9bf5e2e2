"""What reads charges off the features of a MACE model."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from mace.modules.blocks import LinearReadoutBlock, NonLinearReadoutBlock
from mace.modules.irreps_tools import mask_head
from torch import Tensor, nn

from les.moment_readout import MomentReadout

#: Scale of the charge readouts' first random weights, relative to the energy readouts'.
INITIAL_CHARGE_SCALE = 0.1


def charge_readouts(readouts: Iterable[nn.Module], scale: float = 1.0) -> nn.ModuleList:
    """Copies of the energy readouts with new small random weights, to give charges.

    They must not start at zero: the energy is quadratic in the charges, so there would be
    no gradient. Whatever upstream's readouts are made of, their weights are normal with unit
    variance, which is what e3nn expects, and biases are zero. The last ones are scaled by
    :data:`INITIAL_CHARGE_SCALE` and ``scale``.
    """
    copies = nn.ModuleList([copy.deepcopy(readout) for readout in readouts])
    with torch.no_grad():
        for readout in copies:
            weights = [p for name, p in readout.named_parameters() if name.endswith("weight")]
            for parameter in readout.parameters():
                parameter.zero_()
            for weight in weights:
                weight.normal_()
            weights[-1].mul_(INITIAL_CHARGE_SCALE * scale)
    return copies


def read(readout: Any, features: Tensor, heads: Tensor) -> Tensor:
    """As ``readout(features, heads)``, without the detours of e3nn.

    Between scalars an equivariant map is one product of matrices. What e3nn makes of it are some
    fifty operations, which small structures feel.

    Args:
        readout: one of :func:`charge_readouts`.
        features: of a layer ``[n_atoms, n_features]``.
        heads: head of each atom ``[n_atoms]``.

    Returns:
        ``[n_atoms, n_heads]``.
    """
    if type(readout) is LinearReadoutBlock:
        return _product(readout.linear, features)
    if type(readout) is NonLinearReadoutBlock:
        hidden = readout.non_linearity(_product(readout.linear_1, features))
        n_heads = getattr(readout, "num_heads", 1)
        if n_heads > 1:
            hidden = mask_head(hidden, heads, n_heads)
        return _product(readout.linear_2, hidden)
    values: Tensor = readout(features, heads)
    return values


def _product(linear: Any, features: Tensor) -> Tensor:
    """``linear(features)``, as one product if it maps scalars of one kind to such."""
    instructions: list[Any] = getattr(linear, "instructions", [])
    if len(instructions) != 1 or len(linear.irreps_out) != 1 or linear.bias_numel > 0:
        values: Tensor = linear(features)
        return values
    only = instructions[0]
    used = linear.irreps_in.slices()[only.i_in]
    weights = linear.weight.view(only.path_shape)
    return features[:, used] @ (only.path_weight * weights)


def layer_widths(products: nn.ModuleList) -> list[int]:
    """Number of features each layer contributes to upstream's ``node_feats``."""
    return [int(product.linear.irreps_out.dim) for product in products]  # type: ignore[union-attr,arg-type]


def negate(readouts: Iterable[nn.Module]) -> None:
    """Change the sign of charges: of the last weights of each readout, and of their biases.

    That of dipoles and quadrupoles, which have a readout of their own, changes with it.
    """
    with torch.no_grad():
        for readout in readouts:
            if isinstance(readout, MomentReadout):
                readout.negate()
                continue
            names = [name for name, _ in readout.named_parameters() if name.endswith("weight")]
            last = names[-1].removesuffix("weight")
            for name, parameter in readout.named_parameters():
                if name.startswith(last):
                    parameter.neg_()
