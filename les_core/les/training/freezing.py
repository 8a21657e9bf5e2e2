"""Training the charges first, on a short-range part that stays as it is."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class FrozenShortRange:
    """Keeps the short-range part of a model fixed in the first epochs of a training.

    Parameters that are fixed have no gradient, so that optimisers leave them alone.

    Args:
        model: the model that is trained.
        charges: those of its parameters that charges alone depend on, which are always trained.
        epochs: number of epochs in which all others are fixed.
    """

    def __init__(
        self, model: nn.Module, charges: Iterable[nn.Parameter], epochs: int | None
    ) -> None:
        self.epochs = epochs or 0
        of_charges = {id(parameter) for parameter in charges}
        self._others = [x for x in model.parameters() if id(x) not in of_charges]
        self._fixed: list[nn.Parameter] = []

    def start_epoch(self, epoch: int) -> None:
        """Fix the short-range part for this epoch, counted from zero, or train it again."""
        if epoch < self.epochs:
            self._fixed += [x for x in self._others if x.requires_grad]
            for parameter in self._fixed:
                parameter.requires_grad = False
        else:
            for parameter in self._fixed:
                parameter.requires_grad = True
            self._fixed = []
