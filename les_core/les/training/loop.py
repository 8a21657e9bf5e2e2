"""Training of a model that has no trainer of its own, in runs that resume."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from les.backends import EpochRecord
from les.files import replacing
from les.sums.checks import NotFiniteError, TooLargeError
from les.training.charges import ChargeStatistics
from les.training.errors import Errors
from les.training.files import RunFiles
from les.training.freezing import FrozenParameters
from les.training.history import diverged, is_best, random_state, set_random_state, write_history
from les.training.stages import Stage, start_of_the_last, weights_by_epoch

#: Label -> prediction and reference of one batch, of the structures that have it.
Pairs = Mapping[str, tuple[Tensor, Tensor]]

SCHEDULERS = ("cosine", "plateau", "constant")


class Loop:
    """Adam on a weighted sum of mean squared errors, epoch after epoch.

    Validation, and the model that is kept, use exponential averages of the weights. The model
    with the lowest validation loss, with the weights of the last stage, is the best.

    Args:
        model: model to train.
        compare: ``(model, batch, charges)`` -> predictions and references of each label; counts
            the charges of the batch in ``charges``, if these are not ``None``.
        content: what a file holds of a model, plain values; its weights are ``state_dict``.
        files: where the results go.
        stages: weights of the loss, in the order of training.
        settings: what a run that continues this one must agree with.
        learning_rate: of the first epoch.
        scheduler: ``"cosine"`` to a hundredth, ``"plateau"`` halves it after ``patience`` epochs
            without a lower validation loss, or ``"constant"``.
        patience: of ``"plateau"``.
        ema_decay: of the averages, per step, less in the first steps; 0 for none.
        max_gradient_norm: longer gradients are cut.
        frozen: the part of the model that is fixed in the first epochs.
        settle: called with the averaged model when the last of several stages begins, to fit what
            is no parameter to it; the model gets what it has changed among the buffers.
        charges: parameters that charges alone depend on.
        charge_learning_rate: that of ``charges`` in the first epoch; ``None`` for that of all.

    Raises:
        ValueError: for an unknown ``scheduler`` or no stages.
    """

    #: What the state holds.
    PARTS = ("model", "optimizer", "scheduler", "average", "history", "settings", "random_state")

    def __init__(
        self,
        model: nn.Module,
        compare: Callable[[nn.Module, Any, ChargeStatistics | None], Pairs],
        content: Callable[[nn.Module], dict[str, Any]],
        files: RunFiles,
        stages: Sequence[Stage],
        settings: Mapping[str, Any],
        *,
        learning_rate: float = 5e-3,
        scheduler: str = "cosine",
        patience: int = 10,
        ema_decay: float = 0.99,
        max_gradient_norm: float = 10.0,
        frozen: FrozenParameters | None = None,
        settle: Callable[[nn.Module], None] | None = None,
        charges: Iterable[nn.Parameter] = (),
        charge_learning_rate: float | None = None,
    ) -> None:
        if scheduler not in SCHEDULERS:
            raise ValueError(f"`scheduler` must be one of {SCHEDULERS}, got {scheduler!r}")
        if not stages:
            raise ValueError("`stages` must hold at least one stage, got none")
        self.model, self.compare, self.content = model, compare, content
        self.files, self.settings = files, dict(settings)
        self.weights = weights_by_epoch(stages)
        self.max_gradient_norm, self.frozen = max_gradient_norm, frozen
        self.settle, self.last_stage = settle, start_of_the_last(stages)
        groups = _groups(model, charges, charge_learning_rate)
        self.optimizer = torch.optim.Adam(groups, learning_rate)
        self.scheduler: CosineAnnealingLR | ReduceLROnPlateau | None = None
        if scheduler == "cosine":
            end = 0.01 * learning_rate
            self.scheduler = CosineAnnealingLR(self.optimizer, len(self.weights), end)
        elif scheduler == "plateau":
            self.scheduler = ReduceLROnPlateau(self.optimizer, factor=0.5, patience=patience)
        self.average: AveragedModel | None = None
        if ema_decay > 0.0:
            self.average = AveragedModel(model, avg_fn=_moving_average(ema_decay))
        self.records: list[EpochRecord] = []

    @property
    def averaged(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.model if self.average is None else self.average.module

    @property
    def n_done(self) -> int:
        """Number of epochs done."""
        return len(self.records)

    def train(self, train_loader: Iterable[Any], valid_loader: Iterable[Any]) -> None:
        """Do the epochs that are left.

        Raises:
            ValueError: if the loss is no longer a number.
        """
        from tqdm import tqdm

        with tqdm(total=len(self.weights), initial=self.n_done, unit="epoch") as progress:
            while self.n_done < len(self.weights):
                start = time.perf_counter()
                try:
                    train_loss = self._steps(train_loader)
                    seconds = time.perf_counter() - start
                    errors = self.evaluate(valid_loader)
                except (NotFiniteError, TooLargeError) as error:  # charges: the data are checked
                    raise diverged(self.n_done, self.files.checkpoint) from error
                if not math.isfinite(errors.loss()):
                    raise diverged(self.n_done, self.files.checkpoint)
                if isinstance(self.scheduler, ReduceLROnPlateau):
                    self.scheduler.step(errors.loss())
                elif self.scheduler is not None:
                    self.scheduler.step()
                record = EpochRecord(
                    epoch=self.n_done,
                    seconds=seconds,
                    train_loss=train_loss,
                    **errors.of_validation(),
                )
                best = is_best(errors.loss(), self.records)
                self.records.append(record)
                # The best model first: where only that was written, the epoch is done again.
                if best:
                    self._save(self.files.best, self.content(self.averaged))
                self._save(self.files.checkpoint, self._state())
                write_history(self.records, self.files.history)
                progress.set_postfix_str(f"validation MAE: {errors.summary()}", refresh=False)
                progress.update()

    def evaluate(self, loader: Iterable[Any]) -> Errors:
        """Errors of the averaged model."""
        model = self.averaged.eval()
        errors = Errors()
        for batch in loader:
            pairs = self.compare(model, batch, errors.charges)
            errors.add_loss(_loss(pairs, self.weights[-1]))
            for label, (predicted, expected) in pairs.items():
                errors.add(label, predicted, expected)
        return errors

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue after the epoch in ``state``, the content of the checkpoint of the same run.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: if ``state`` is not one of this class.
        """
        self.model.load_state_dict(state["model"]["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.records = [EpochRecord(**record) for record in state["history"]]
        # The run may have been killed before it could.
        write_history(self.records, self.files.history)
        set_random_state(state["random_state"])

    def _steps(self, loader: Iterable[Any]) -> float:
        """One epoch; the mean loss."""
        if self.settle is not None and self.n_done == self.last_stage:
            self.settle(self.averaged)
            for own, settled in zip(self.model.buffers(), self.averaged.buffers(), strict=True):
                own.copy_(settled)
        self.model.train()
        if self.frozen is not None:
            self.frozen.start_epoch(self.n_done)
        weights = self.weights[self.n_done]
        losses = []
        for batch in loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss = _loss(self.compare(self.model, batch, None), weights)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.content(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "history": [dataclasses.asdict(x) for x in self.records],
            "settings": self.settings,
            "random_state": random_state(),
        }

    def _save(self, path: Any, content: dict[str, Any]) -> None:
        with replacing(path) as temporary:
            torch.save(content, temporary)


def _groups(
    model: nn.Module, charges: Iterable[nn.Parameter], charge_learning_rate: float | None
) -> list[dict[str, Any]]:
    """Groups of an optimiser: one, or with a learning rate of the charges a second one of them."""
    if charge_learning_rate is None:
        return [{"params": list(model.parameters())}]
    own = list(charges)
    known = {id(parameter) for parameter in own}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [{"params": others}, {"params": own, "lr": charge_learning_rate}]


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An average that soon forgets the weights from the start, when training is young."""

    def update(average: Tensor, value: Tensor, n_averaged: Tensor | int) -> Tensor:
        n = torch.as_tensor(n_averaged)  # stays on its device
        weight = 1.0 - torch.clamp((1.0 + n) / (10.0 + n), max=decay)
        return average + weight * (value - average)

    return update


def _loss(pairs: Pairs, weights: Mapping[str, float]) -> Tensor:
    terms = [
        weights[label] * nn.functional.mse_loss(predicted, expected)
        for label, (predicted, expected) in pairs.items()
        if weights.get(label)
    ]
    return torch.stack(terms).sum()
