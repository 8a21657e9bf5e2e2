"""Another weight of the energy in the last epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class SecondStage(Callback):  # type: ignore[misc]
    """Gives terms of the loss another weight in the last epochs of a training.

    Name it among ``trainer.callbacks``::

        - _target_: les_nequip.SecondStage
          start: 0.75
          factors: {per_atom_energy_mse: 10.0}

    Upstream's ``LossCoefficientScheduler`` names epochs and all coefficients; this one follows
    ``max_epochs``, and leaves the ratios of other terms, such as those of responses, as they are.

    Args:
        start: fraction of ``trainer.max_epochs`` after which it begins.
        factors: name of a term of the loss -> factor on its coefficient.

    Raises:
        ValueError: for a ``start`` that is not between 0 and 1, and factors that are not positive.
    """

    def __init__(self, start: float, factors: Mapping[str, float]) -> None:
        super().__init__()
        if not 0.0 < start < 1.0:
            raise ValueError(f"`start` must be between 0 and 1, got {start!r}")
        for name, factor in factors.items():
            if not 0.0 < factor < float("inf"):
                raise ValueError(f"`factors` must be above 0, got {factor!r} for {name!r}")
        self.start, self.factors = start, dict(factors)
        self.first: dict[str, float] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        coefficients = {name: entry.coeff for name, entry in pl_module.loss.entries.items()}
        for name in self.factors:
            if coefficients.get(name) is None:
                raise ValueError(
                    f"`factors` has {name!r}, which is no term of the loss with a coefficient "
                    f"({', '.join(name for name, x in coefficients.items() if x is not None)})"
                )
        if self.first is None:  # not of a run that is continued
            self.first = coefficients

    def first_epoch(self, trainer: Trainer) -> int:
        """The epoch in which it begins, counted from zero."""
        return round(self.start * trainer.max_epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.first is not None
        second = trainer.current_epoch >= self.first_epoch(trainer)
        factors = self.factors if second else {}
        pl_module.loss.set_coeffs(
            {
                name: None if coefficient is None else factors.get(name, 1.0) * coefficient
                for name, coefficient in self.first.items()
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """The coefficients of the first stage: a checkpoint has those of its own epoch."""
        return {"first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.first = state_dict["first"]
