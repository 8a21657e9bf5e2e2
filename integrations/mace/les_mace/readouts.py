"""What reads charges off the features of a MACE model."""

from __future__ import annotations

import copy

import torch
from torch import nn

#: Scale of the charge readouts' first random weights, relative to the energy readouts'.
INITIAL_CHARGE_SCALE = 0.1


def charge_readouts(readouts: nn.ModuleList, scale: float = 1.0) -> nn.ModuleList:
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


def layer_widths(products: nn.ModuleList) -> list[int]:
    """Number of features each layer contributes to upstream's ``node_feats``."""
    return [int(product.linear.irreps_out.dim) for product in products]  # type: ignore[union-attr,arg-type]


def negate(readouts: nn.ModuleList) -> None:
    """Change the sign of the charges: of the last weights of each readout, and of their biases."""
    with torch.no_grad():
        for readout in readouts:
            names = [name for name, _ in readout.named_parameters() if name.endswith("weight")]
            last = names[-1].removesuffix("weight")
            for name, parameter in readout.named_parameters():
                if name.startswith(last):
                    parameter.neg_()
