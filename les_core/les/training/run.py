"""A run of a training with the tools of this package."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from les.backends import Backend
from les.backends.model_files import check_parts
from les.training.files import RunFiles
from les.training.history import plain_state, refuse_other_settings


class TrainingRun(NamedTuple):
    """What a training is told.

    Attributes:
        backend: whose model is trained.
        options: of a ``TrainingParser``.
        files: those of the run.
        les: whether the model has LES.
        continued: whether there is an earlier run to go on with.
    """

    backend: Backend
    options: argparse.Namespace
    files: RunFiles
    les: bool
    continued: bool

    def settings(self) -> dict[str, Any]:
        """What a run that continues this one must agree with, see ``RunFiles.settings``."""
        return self.files.settings(vars(self.options), self.les)

    def state(self, read: Callable[[Path], Any], parts: Collection[str]) -> Any:
        """The state that the earlier run has left.

        Args:
            read: what reads its checkpoint.
            parts: what the state must have.

        Raises:
            ValueError: for a checkpoint that is damaged, and for one of other settings.
        """
        checkpoint = self.files.checkpoint
        with plain_state(checkpoint):
            state = read(checkpoint)
        check_parts(state, parts, checkpoint, "state of a training")
        refuse_other_settings(state, self.settings(), checkpoint)
        return state
