"""The checkpoints of a run: whole ones only, so that a continued run never begins anew.

mace-torch (0.3.16) deletes a checkpoint before it writes the next, reads checkpoints as pickles,
begins at epoch 0 when it cannot read the last one, or when that is of another model, and after a
restart takes the first epoch for the best, so that the best one so far is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import glob
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mace import tools
from mace.tools.checkpoint import CheckpointHandler, CheckpointIO, CheckpointPathInfo

from les.backends.model_files import PickleRefusedError, check_parts, load_plain
from les.files import replacing
from les.locks import locked
from les_mace.replaced import replaced
from les_mace.settings import agree

logger = logging.getLogger("les")

KIND = "MACE checkpoint"

#: Where a checkpoint has the validation loss of its state, beside what upstream puts there.
LOSS = "les_valid_loss"

_save = torch.save


class WholeCheckpoints(CheckpointIO):
    """Upstream's files, each of which is there until the next one is whole.

    Attributes:
        allow_pickle: read checkpoints that run the code they hold.
    """

    allow_pickle = False
    old_path: str | None

    def found(self) -> list[CheckpointPathInfo]:
        """The checkpoints of this run, the latest epoch first."""
        infos = map(self._parse_checkpoint_path, self._list_file_paths())
        own = [info for info in infos if info is not None and info.tag == self.tag]
        return sorted(own, key=lambda info: (info.epochs, info.swa), reverse=True)

    def save(self, checkpoint: dict[str, Any], epochs: int, keep_last: bool = False) -> None:
        path = Path(self.directory, self._get_checkpoint_filename(epochs, self.swa_start))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            _save(checkpoint, temporary)
        before, self.old_path = self.old_path, str(path)
        if before not in (None, self.old_path) and not self.keep and not keep_last:
            Path(before).unlink(missing_ok=True)

    def load(self, path: str, device: torch.device | None = None) -> tuple[dict[str, Any], int]:
        info = self._parse_checkpoint_path(path)
        if info is None:
            raise ValueError(f"the name of {path} is not that of a {KIND}")
        content = load_plain(path, KIND, allow_pickle=self.allow_pickle)
        check_parts(content, ("model", "optimizer", "lr_scheduler"), path, KIND)
        return content, info.epochs


class WholeCheckpointHandler(CheckpointHandler):
    """Upstream's handler, which goes back to the last whole checkpoint, or keeps the error.

    Args:
        record: upstream's record of the run's epochs.
        allow_pickle: read checkpoints that run the code they hold.

    Attributes:
        problem: why no checkpoint could be loaded, which upstream would not tell.
        epoch: that of the checkpoint loaded last.
        best: whether the last checkpoint is one of stage two, and its validation loss.
    """

    def __init__(self, *args: Any, record: Path, allow_pickle: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.record = record
        self.best = (False, math.inf)
        self.io = WholeCheckpoints(*args, **kwargs)
        self.io.allow_pickle = allow_pickle
        self.problem: ValueError | None = None
        self.epoch: int | None = None

    def save(self, state: Any, epochs: int, keep_last: bool = False) -> None:
        """Keep the state after an epoch, unless that stage has one with a lower loss already."""
        stage_two = self.io.swa_start is not None and epochs >= self.io.swa_start
        loss = self._last_loss()
        stage, best = self.best
        if stage == stage_two and best <= loss < math.inf and not self.io.keep:
            logger.info("epoch %d is not better than that of the last checkpoint", epochs)
            return
        content = {**self.builder.create_checkpoint(state), LOSS: loss}
        self.io.save(content, epochs, keep_last)
        self.best = (stage_two, loss)

    def _last_loss(self) -> float:
        """The last validation loss on record, which is that of the state to be saved."""
        losses = [entry["loss"] for entry in _entries(self.record) if entry.get("mode") == "eval"]
        return float(losses[-1]) if losses else math.inf

    def load_latest(
        self,
        state: Any,
        swa: bool | None = False,
        device: torch.device | None = None,
        strict: bool = False,
    ) -> int | None:
        """Load the latest whole checkpoint of stage one, or with ``swa`` of stage two.

        Returns:
            Its epoch, or ``None`` if the run has left no checkpoint at all.

        Raises:
            ValueError: if there are checkpoints, but none of this stage; if none is whole; or if
                the last is not one of this model.
        """
        found = self.io.found()
        if not found:
            return None
        of_stage = [info for info in found if info.swa == bool(swa)]
        if not of_stage:
            raise ValueError(
                f"{self.io.directory} has no checkpoint of stage {'two' if swa else 'one'}"
            )
        for info in of_stage:
            try:
                checkpoint, epoch = self.io.load(info.path, device)
            except PickleRefusedError as error:
                self.problem = error
                raise
            except (ValueError, OSError) as error:
                logger.warning("%s; looking for an earlier one", error)
                self.problem = self.problem or ValueError(
                    f"the run cannot be continued: {error}, or remove it to go on without it"
                )
                continue
            try:
                self.builder.load_checkpoint(state, checkpoint, strict)
            except Exception as error:  # of many kinds, where the parts are of something else
                reason = " ".join(str(error).split()[:40])
                self.problem = ValueError(
                    f"{info.path} is of a run with another model or optimizer: {reason}"
                )
                raise self.problem from error
            self.problem, self.epoch = None, epoch
            self.best = (info.swa, checkpoint.get(LOSS, math.inf))
            return epoch
        assert self.problem is not None
        raise self.problem


def folder_of(options: argparse.Namespace) -> Path:
    """Where the run keeps its checkpoints."""
    return Path(options.checkpoints_dir or Path(options.work_dir, "checkpoints"))


@contextlib.contextmanager
def claimed(options: argparse.Namespace, settings: Mapping[str, Any]) -> Iterator[None]:
    """Keep other processes away from the run's checkpoints, and other runs' from this one.

    Raises:
        ValueError: if there are checkpoints of a run of this name that is not continued: at its
            end, upstream would take the latest of them all. If there are none, but a record of
            its epochs, which would be lost or mixed with those of another run. If a run that is
            continued had other ``settings``.
        les.locks.InUseError: if the run is going on in another process.
    """
    if options.dry_run:
        yield
        return
    folder, tag = folder_of(options), tools.get_tag(options.name, options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    kept_settings = folder / f"{tag}_settings.json"
    if options.distributed:  # each process comes here, with the same settings
        continued = options.restart_latest and bool(WholeCheckpoints(str(folder), tag).found())
        agree(kept_settings, settings, continued=continued)
        yield
        return
    with locked(folder / tag):
        for part in folder.glob(f"{glob.escape(tag)}_epoch-*.part"):  # of a run that was killed
            part.unlink()
        found = WholeCheckpoints(str(folder), tag).found()
        if found and not options.restart_latest:
            raise ValueError(
                f"{found[0].path} is there already: continue that run with --resume, or use "
                "another --name, --seed or --work_dir"
            )
        if not found:
            _refuse_lost_epochs(options, folder, tag)
        agree(kept_settings, settings, continued=bool(found))
        yield


def _refuse_lost_epochs(options: argparse.Namespace, folder: Path, tag: str) -> None:
    """Refuse to begin at epoch 0 where upstream's record of such a run knows later ones."""
    record = _record(options, tag)
    last = max((entry.get("epoch") or 0 for entry in _entries(record)), default=0)
    if last > 0:
        raise ValueError(
            f"{record} knows {last + 1} epochs of this run, but {folder} has no checkpoint of it: "
            "remove the record to begin anew, or use another --name, --seed or --work_dir"
        )


def _record(options: argparse.Namespace, tag: str) -> Path:
    """Where upstream writes down the errors of each epoch."""
    return Path(options.results_dir or Path(options.work_dir, "results"), f"{tag}_train.txt")


def _entries(record: Path) -> Iterator[dict[str, Any]]:
    """The entries of a record, from the first on; none if there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        for line in record.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # of a line that was cut
                yield json.loads(line)


@contextlib.contextmanager
def complete_checkpoints(
    options: argparse.Namespace, settings: Mapping[str, Any]
) -> Iterator[None]:
    """Let upstream's training read and write its files as this module does.

    Args:
        options: upstream's.
        settings: what a continued run must agree with (``les_mace.settings``).
    """
    handler = functools.partial(
        WholeCheckpointHandler,
        record=_record(options, tools.get_tag(options.name, options.seed)),
        allow_pickle=options.allow_pickle,
    )
    with (
        claimed(options, settings),
        replaced(tools, "CheckpointHandler", handler),
        replaced(tools, "train", _continuing(tools.train, options)),
        replaced(torch, "save", save_completely),
    ):
        yield


def _continuing(train: Callable[..., Any], options: argparse.Namespace) -> Callable[..., Any]:
    """Upstream's training loop, which does not begin at another epoch than it should."""

    @functools.wraps(train)
    def checked(*args: Any, **kwargs: Any) -> Any:
        handler: WholeCheckpointHandler = kwargs["checkpoint_handler"]
        if handler.problem is not None:
            raise handler.problem
        start = kwargs["start_epoch"]
        if start != (handler.epoch or 0):
            raise ValueError(f"the run would go on at epoch {start} instead of {handler.epoch}")
        if handler.epoch is not None:
            logger.info("continuing from the best epoch so far, %d, which is done again", start)
        elif options.restart_latest:
            logger.info("there is no run of this name to continue: this is a new one")
        return train(*args, **kwargs)

    return checked


def save_completely(content: Any, f: Any, *args: Any, **kwargs: Any) -> None:
    """``torch.save``; a file that has a name appears whole or not at all, and errors name it."""
    if not isinstance(f, (str, os.PathLike)):
        _save(content, f, *args, **kwargs)
        return
    with replacing(Path(f)) as temporary:
        _save(content, temporary, *args, **kwargs)
