"""Upstream's trainer, in runs that can be killed at any moment and continued."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from ase import units
from chgnet.trainer import Trainer
from tqdm import tqdm

from les.backends import EpochRecord
from les.files import replacing
from les.sums.checks import NotFiniteError, TooLargeError
from les.training.errors import Errors
from les.training.history import diverged, is_best, random_state, set_random_state, write_history
from les.training.stages import start_of_the_last, weights_by_epoch
from les_chgnet.arguments import RATIOS
from les_chgnet.data import LABELS
from les_chgnet.loss import Noted, ResponseLoss, labelled_pairs
from les_chgnet.model_arguments import plain_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chgnet.model import CHGNet
    from torch.utils.data import DataLoader

    from les.training.files import RunFiles
    from les.training.freezing import FrozenParameters
    from les.training.stages import Stage


class ResumableTrainer(Trainer):
    """Upstream's ``Trainer``, which keeps its state in files, safely.

    After each epoch there is one file with the model, the optimiser and the learning curve, and
    one with the model of the lowest validation loss; a file is at any moment the old or the new
    one. (Upstream removes the old one first.)

    Args:
        model: model to train.
        files: where the results go.
        settings: what a run that continues this one must agree with.
        charge_learning_rate: initial learning rate of the charges; ``None`` for that of all.
        responses: label -> weight of the responses in the loss.
        stages: weights of the other labels in the loss, in the order of training. Validation has
            those of the last stage, so that losses of all epochs can be compared.
        frozen: the part of the model that is fixed in the first epochs.
        settle: called with the model when the last of several stages begins.
        trainer_args: as for ``Trainer``.
    """

    #: What the files hold.
    PARTS = (
        *("model", "optimizer", "scheduler", "training_history", "history"),
        *("trainer_args", "settings", "random_state"),
    )

    def __init__(
        self,
        model: CHGNet,
        *,
        files: RunFiles,
        settings: dict[str, Any],
        charge_learning_rate: float | None = None,
        responses: Mapping[str, float] | None = None,
        stages: Sequence[Stage],
        frozen: FrozenParameters | None = None,
        settle: Callable[[CHGNet], None] | None = None,
        **trainer_args: Any,
    ) -> None:
        self.weights = weights_by_epoch(stages)
        super().__init__(model, epochs=len(self.weights), **trainer_args)
        self.upstream_loss = self.criterion
        self.frozen = frozen
        self.settle, self.last_stage = settle, start_of_the_last(stages)
        self.responses = responses or {}
        self.batches: Noted | None = None
        if self.responses:
            loss: Any = self.criterion
            self.criterion: torch.nn.Module = ResponseLoss(loss, self.responses)
        if charge_learning_rate is not None:
            self._separate_charges(charge_learning_rate)
        self.files, self.settings = files, settings
        self.records: list[EpochRecord] = []
        self.errors = Errors()
        self.progress: tqdm[Any] | None = None
        self.criterion.register_forward_hook(self._gather)

    def _separate_charges(self, learning_rate: float) -> None:
        """Give the charges a group of the optimiser, with a schedule from ``learning_rate``."""
        (group,) = self.optimizer.param_groups
        charges = list(self.model.les.parameters())
        own = {id(parameter) for parameter in charges}
        group["params"] = [x for x in group["params"] if id(x) not in own]
        rates = {"lr": learning_rate, "initial_lr": learning_rate}
        self.optimizer.add_param_group({"params": charges, **rates})
        self.scheduler.base_lrs.append(learning_rate)

    @staticmethod
    def charge_learning_rate(state: dict[str, Any]) -> float | None:
        """The argument ``charge_learning_rate`` of the run in ``state``."""
        groups = state["optimizer"]["param_groups"]
        return float(groups[1]["initial_lr"]) if len(groups) > 1 else None

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue after the epoch in ``state``, the content of a checkpoint.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: if ``state`` is not one of this class.
        """
        self.model.load_state_dict(state["model"]["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.training_history = state["training_history"]
        self.records = [EpochRecord(**record) for record in state["history"]]
        self.starting_epoch = len(self.records)
        # The run may have been killed before it could.
        write_history(self.records, self.files.history)
        set_random_state(state["random_state"])

    def train(self, train_loader: DataLoader, val_loader: DataLoader, **options: Any) -> None:
        """As upstream's, with a progress bar.

        Raises:
            ValueError: if the errors become NaN, where upstream ends the run.
        """
        options["save_dir"] = str(self.files.checkpoint.parent)
        try:
            with (
                self._asking_for_bec(),
                tqdm(total=self.epochs, initial=self.starting_epoch, unit="epoch") as progress,
            ):
                self.progress = progress
                super().train(train_loader, val_loader, **options)
        except (NotFiniteError, TooLargeError) as error:  # charges: the data are checked
            raise diverged(len(self.records), self.files.checkpoint) from error
        if len(self.records) < self.epochs:
            raise diverged(len(self.records), self.files.checkpoint)

    @contextlib.contextmanager
    def _asking_for_bec(self) -> Iterator[None]:
        """Have the model compute Born effective charges where they are trained on."""
        hook = None
        if self.responses:
            hook = self.model.register_forward_pre_hook(self._ask_for_bec, with_kwargs=True)
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()

    def _weigh(self, weights: Mapping[str, float]) -> None:
        """Give the terms of upstream's loss these weights."""
        for label, name in RATIOS.items():
            setattr(self.upstream_loss, name, weights.get(label, 0.0))

    def _ask_for_bec(
        self, model: torch.nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Hook of the model: Born effective charges are computed where there are labels."""
        needed = self.batches is not None and self.batches.has("bec")
        return args, {**kwargs, **({"return_bec": True} if needed else {})}

    def _noted(self, loader: Any) -> Any:
        if not self.responses:
            return loader
        self.batches = Noted(loader)
        return self.batches

    def _train(self, loader: DataLoader, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.errors = Errors()
        if self.settle is not None and len(self.records) == self.last_stage:
            self.settle(self.model)
        if self.frozen is not None:
            self.frozen.start_epoch(len(self.records))
        self._weigh(self.weights[len(self.records)])
        start = time.perf_counter()
        mean_errors = super()._train(self._noted(loader), *args, **kwargs)
        self.train_seconds, self.train_loss = time.perf_counter() - start, self.errors.loss()
        return mean_errors

    def _validate(self, loader: DataLoader, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.errors = Errors()
        self._weigh(self.weights[-1])
        return super()._validate(self._noted(loader), *args, **kwargs)

    def save_checkpoint(self, epoch: int, mae_error: dict[str, float], save_dir: str) -> None:
        """Write the state after ``epoch``; called by upstream."""
        valid_loss = self.errors.loss()
        if not math.isfinite(valid_loss):
            raise diverged(epoch, self.files.checkpoint)
        record = EpochRecord(
            epoch=epoch,
            seconds=self.train_seconds,
            train_loss=self.train_loss,
            **self.errors.of_validation(),
        )
        best = is_best(valid_loss, self.records)
        self.records.append(record)
        # The best model first: where only that was written, the epoch is done again.
        if best:
            self.save(str(self.files.best))
        self.save(str(self.files.checkpoint))
        write_history(self.records, self.files.history)
        if self.progress is not None:
            text = f"validation MAE: {self.errors.summary()}"
            self.progress.set_postfix_str(text, refresh=False)
            self.progress.update()

    def save(self, filename: str = "training_result.pth.tar") -> None:
        """Write the state, of which all is plain values."""
        state = {
            "model": plain_dict(self.model.as_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "training_history": self.training_history,
            "trainer_args": self.trainer_args,
            "history": [dataclasses.asdict(x) for x in self.records],
            "settings": self.settings,
            "random_state": random_state(),
        }
        with replacing(filename) as temporary:
            torch.save(state, temporary)

    def evaluate(self, loader: DataLoader) -> Errors:
        """Errors of the model as it is now."""
        self._validate(loader)
        return self.errors

    def _gather(
        self, criterion: torch.nn.Module, inputs: tuple[Any, ...], out: dict[str, Any]
    ) -> None:
        """Hook of the criterion: upstream itself keeps mean absolute errors only."""
        targets, prediction = inputs
        self.errors.add_loss(out["loss"])
        if self.model.training:
            return
        if "charges" in prediction:
            sizes = torch.tensor([len(each) for each in prediction["charges"]])
            structure = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
            charges = torch.cat(prediction["charges"])
            self.errors.charges.add(charges, structure, prediction["les_energy"])
        for letter, expected in targets.items():
            if letter in self.responses:
                found = labelled_pairs(letter, targets, prediction)
                for predicted, label in zip(*found, strict=True) if found else ():
                    self.errors.add(letter, predicted, label)
                continue
            pairs = zip(expected, prediction[letter], strict=True)
            factor = units.GPa if letter == "s" else 1.0
            for label, predicted in pairs:
                if label is not None and not torch.isnan(label).any():
                    self.errors.add(LABELS[letter], factor * predicted, factor * label)
