"""Training a part of a model while the rest stays as it is."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from les.readout import ChargeReadout

#: Standard deviation of the charges of elements where they are random [e].
RANDOM_CHARGE = 0.5


class FrozenParameters:
    """Keeps parameters of a model fixed in the first epochs of a training.

    Parameters that are fixed have no gradient, so that optimisers leave them alone.

    Args:
        parameters: those that are fixed.
        epochs: number of these epochs; ``None`` for none.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], epochs: int | None) -> None:
        self.epochs = epochs or 0
        self._parameters = list(parameters)
        self._fixed: list[nn.Parameter] = []

    def start_epoch(self, epoch: int) -> None:
        """Fix the parameters for this epoch, counted from zero, or train them again."""
        if epoch < self.epochs:
            self._fixed += [x for x in self._parameters if x.requires_grad]
            for parameter in self._fixed:
                parameter.requires_grad = False
        else:
            for parameter in self._fixed:
                parameter.requires_grad = True
            self._fixed = []


class FrozenShortRange(FrozenParameters):
    """Keeps the short-range part of a model fixed in the first epochs of a training.

    Args:
        model: the model that is trained.
        charges: those of its parameters that charges alone depend on, which are always trained.
        epochs: number of epochs in which all others are fixed.
    """

    def __init__(
        self, model: nn.Module, charges: Iterable[nn.Parameter], epochs: int | None
    ) -> None:
        of_charges = {id(parameter) for parameter in charges}
        super().__init__([x for x in model.parameters() if id(x) not in of_charges], epochs)


def set_random_charges(readout: ChargeReadout) -> None:
    """Give each element a random charge, and read nothing from features.

    It makes the control that tells what is gained by charges, and what by having them learned.

    Raises:
        ValueError: if the readout has no charges of elements, or reads electronegativities.
    """
    if readout.charge_equilibration:
        raise ValueError("random charges cannot be equilibrated: leave out `charge_equilibration`")
    if readout.of_elements is None:
        raise ValueError("random charges are those of elements: `element_charges` must be true")
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.zero_()
        readout.of_elements.charges.normal_(std=RANDOM_CHARGE)
