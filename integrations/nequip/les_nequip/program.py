"""``nequip-train`` in this process."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra._internal.utils import get_args_parser
from hydra.errors import CompactHydraException, InstantiationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from nequip.scripts import train as nequip_train
from omegaconf import OmegaConf

#: Registered by each run of upstream, which expects to be the first of its process.
RESOLVER = "training_data_stats"

#: Loggers of Lightning, and starts of what they say of services and hardware that we do not use.
LIGHTNING = ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero")
NOISE = ("💡 Tip:", "TPU available", "HPU available")


@dataclass(frozen=True)
class Outcome:
    """What a run has left."""

    #: The checkpoint with the lowest validation loss.
    best: Path
    #: Where it was trained.
    device: torch.device


def run(arguments: Sequence[str], config_path: str) -> Outcome | None:
    """Run ``nequip-train`` with its own ``arguments``.

    Args:
        arguments: of the command line.
        config_path: folder of the configuration.

    Returns:
        What the training has left, if there was one that writes checkpoints.

    Raises:
        ValueError: where upstream refuses arguments, configuration or data.
    """
    # Upstream remembers the folder it was imported in, and takes relative ones from its own.
    parsed = get_args_parser().parse_args(list(arguments))
    path = () if parsed.config_path else ("--config-path", config_path)
    # Further processes of a distributed run start this program.
    program = Path(sys.executable).with_name("nequip-train")
    with _arguments([str(program), *arguments, *path]), _quiet(), _trainers() as trainers:
        try:
            nequip_train.main()
        except (InstantiationException, CompactHydraException) as error:
            cause: BaseException | None = error
            while isinstance(cause, InstantiationException):  # one for each level of sections
                cause = cause.__cause__
            if isinstance(cause, (ValueError, OSError, AssertionError, MisconfigurationException)):
                raise ValueError(_reason(cause)) from error
            raise
        except (AssertionError, MisconfigurationException) as error:
            raise ValueError(_reason(error)) from error
        finally:
            OmegaConf.clear_resolver(RESOLVER)
    best = getattr(trainers[-1].checkpoint_callback, "best_model_path", "") if trainers else ""
    if not best or not Path(best).is_file():
        return None
    return Outcome(Path(best), trainers[-1].strategy.root_device)


def _reason(error: BaseException) -> str:
    """What an error of upstream says; of an assertion without a text, what was asserted."""
    if str(error):
        return str(error)
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} of {raised.name}: {raised.line}"


@contextlib.contextmanager
def _trainers() -> Iterator[list[Trainer]]:
    """The trainers that fit a model in here; upstream keeps its own to itself."""
    found: list[Trainer] = []
    original = Trainer.fit

    def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        found.append(trainer)
        return original(trainer, *args, **kwargs)

    Trainer.fit = fit
    try:
        yield found
    finally:
        Trainer.fit = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says that tells our users nothing."""

    def relevant(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(NOISE)

    loggers = [logging.getLogger(name) for name in LIGHTNING]
    for logger in loggers:
        logger.addFilter(relevant)
    try:
        with warnings.catch_warnings():
            # Hydra writes its files to the folder of the checkpoints first.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(relevant)


@contextlib.contextmanager
def _arguments(values: list[str]) -> Iterator[None]:
    original = sys.argv
    sys.argv = values
    try:
        yield
    finally:
        sys.argv = original
