"""Where a run leaves its results, and what one that continues it has to agree with."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig

from les.backends.model_files import OPT_IN, PickleRefusedError, load_plain
from les.files import replacing
from les.locks import locked
from les.training.files import RunFiles
from les.training.history import refuse_other_settings
from les_nequip.configured import differences, resolved
from les_nequip.model_files import PLAIN
from les_nequip.progress import SECONDS
from les_nequip.sections import refuse_consent, refuse_other_builders, targets
from les_nequip.upstream_files import read_checkpoint

logger = logging.getLogger("les")

#: Sections that a run which is continued takes from its checkpoint, whatever is configured.
OF_THE_CHECKPOINT: Final = (
    "model",
    "optimizer",
    "lr_scheduler",
    "loss",
    "train_metrics",
    "val_metrics",
    "test_metrics",
)
#: What nequip-train and Lightning write to a checkpoint.
WRITTEN: Final = frozenset(
    {
        "MixedPrecision",
        "callbacks",
        "epoch",
        "global_step",
        "hparams_name",
        "hyper_parameters",
        "loops",
        "lr_schedulers",
        "native_amp_scaling_state",
        "optimizer_states",
        "pytorch-lightning_version",
        "state_dict",
    }
)
#: Checkpoints that the shipped configurations write.
LAST, BEST = "last.ckpt", "best.ckpt"
#: What to do about settings that cannot be read.
WITHOUT_SETTINGS: Final = "remove it to continue without comparing the settings of the run"


class RunFolder:
    """Where a run has its model, in ``folder``, and what upstream writes, in ``folder/name``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.files = RunFiles(folder, name, PLAIN)
        self.folder = folder / name

    @property
    def model(self) -> Path:
        """The best model, when the run has ended."""
        return self.files.model

    @property
    def last(self) -> Path:
        """The state after the last epoch, or else after the best one."""
        last, best = self.folder / LAST, self.folder / BEST
        return best if best.is_file() and not last.is_file() else last

    @property
    def _settings(self) -> Path:
        return self.folder / "settings.json"

    @contextlib.contextmanager
    def claim(self, settings: Mapping[str, Any], *, resume: bool) -> Iterator[bool]:
        """Make the folder, and keep other processes away from it in this context.

        Yields:
            Whether there is a run to continue.

        Raises:
            ValueError: if there is one and ``resume`` is false, or with other settings, or of
                which the checkpoints to continue from are missing; if there is only a model.
            les.locks.InUseError: if the run is going on in another process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            yield self._is_continued(settings, resume)

    def _is_continued(self, settings: Mapping[str, Any], resume: bool) -> bool:
        for left in self.folder.glob("*.part"):  # by a run that was killed while writing
            left.unlink()
        checkpoints = sorted(self.folder.glob("*.ckpt"))
        if checkpoints and not resume:
            raise ValueError(
                f"{checkpoints[0]} is there already: continue that run with --resume, or use "
                "another --name or --work_dir"
            )
        if not checkpoints and self.model.exists():
            raise ValueError(
                f"{self.model} is there already, of another run; use another --name or --work_dir"
            )
        if not checkpoints:
            self._refuse_lost_epochs()
            with replacing(self._settings) as temporary:
                temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")
            return False
        if not self.last.is_file():
            raise ValueError(
                f"{self.folder} has neither {LAST} nor {BEST} to continue from; name one of "
                "its checkpoints with ++ckpt_path=FILE"
            )
        if self.last.name == BEST:
            logger.warning("%s has no %s: continuing after the best epoch", self.folder, LAST)
        if self._settings.is_file():
            refuse_other_settings({"settings": self._settings_before()}, settings, self.last)
        else:
            logger.warning(
                "%s is not there: whether the run has the settings and the data that it had is "
                "known of its model and schedule only",
                self._settings,
            )
        return True

    def _settings_before(self) -> dict[str, Any]:
        try:
            before = json.loads(self._settings.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self._settings} is damaged: {error}; {WITHOUT_SETTINGS}") from error
        if not isinstance(before, dict):
            raise ValueError(f"{self._settings} holds no settings; {WITHOUT_SETTINGS}")
        return before

    def _refuse_lost_epochs(self) -> None:
        """Refuse a folder in which a run has trained, but of which the checkpoints are gone."""
        for log in sorted(self.folder.glob("logs/version_*/metrics.csv")):
            with log.open(newline="", encoding="utf-8", errors="replace") as file:
                # Of an epoch that was broken off, the time is not there.
                if any(row.get(SECONDS) for row in csv.DictReader(file)):
                    raise ValueError(
                        f"{log} has epochs of a run, but {self.folder} no checkpoint to continue "
                        "from; move the folder away, or use another --name or --work_dir"
                    )


def _refuse_other_code(content: Mapping[str, Any], path: Path, config: DictConfig) -> None:
    """Refuse a checkpoint that would have code run that the configuration does not name.

    Upstream has Lightning make the whole training of what the checkpoint says: also of keys that
    earlier releases of Lightning wrote, and each with the file of the best model.

    Args:
        content: of the checkpoint.
        path: the checkpoint, for messages.
        config: the configuration of the run that continues.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`check_continued`.
    """
    configured = resolved(config.training_module)
    data_module = str(config.data.get("_target_")).rpartition(".")[2]  # has a state, too
    others = [key for key in content if key not in WRITTEN and key != data_module]
    others += [key for key in content["hyper_parameters"] if str(key).startswith("_")]
    if others or content.get("hparams_name") not in (None, "kwargs"):
        found = others[0] if others else "hparams_name"
        raise PickleRefusedError(
            f"{path} holds {found!r}, which nequip-train writes to no checkpoint; {OPT_IN}"
        )
    built = {key: x for key, x in content["hyper_parameters"].items() if key != "info_dict"}
    module = content["hyper_parameters"]["info_dict"]["training_module"]["_target_"]
    refuse_other_builders({"_target_": module}, path, also={str(configured.get("_target_"))})
    for key, section in built.items():
        named = set(targets(configured.get(key), "the configuration"))
        refuse_other_builders(section, path, also=named)
    refuse_consent(built, path)
    # After the training, upstream unpickles the best model, to test it.
    callbacks = content.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
        best = state.get("best_model_path") if isinstance(state, Mapping) else None
        if isinstance(best, str) and best and Path(best).is_file():
            load_plain(best, "checkpoint of nequip-train")


def check_continued(
    checkpoint: Path, config: DictConfig, *, les: bool, allow_pickle: bool, strict: bool
) -> None:
    """Check the file that a run is to continue from, before upstream loads it.

    Args:
        checkpoint: the file.
        config: the configuration of the run that continues.
        les: whether it is to have LES.
        allow_pickle: load what runs the code it holds.
        strict: whether configured sections without effect are an error or a warning.

    Raises:
        FileNotFoundError, ValueError: for a file that is missing, damaged, no checkpoint of
            nequip-train, or would have code run that the configuration does not name; of a run
            with LES where that is not wanted, or the other way round; as ``strict`` says.
    """
    content = read_checkpoint(checkpoint, allow_pickle=allow_pickle)
    hyper = content["hyper_parameters"]
    has_les = any(".readout.network." in name for name in content["state_dict"])
    if les and not has_les:
        raise ValueError(
            f"{checkpoint} is of a run without LES and would continue without it; add LES to its "
            "model with --from"
        )
    if has_les and not les:
        raise ValueError(f"{checkpoint} is of a run with LES; continue it with --les")
    if not allow_pickle:
        _refuse_other_code(content, checkpoint, config)
    module = resolved(config.training_module)
    for section in OF_THE_CHECKPOINT:
        place = f"training_module.{section}"
        for key, stored, configured in differences(hyper.get(section), module.get(section), place):
            message = (
                f"{checkpoint} is continued with its own `{key}`, {stored}; the configuration has "
                f"another one, {configured}, without effect"
            )
            if strict:
                raise ValueError(f"{message}; use the same settings, or another --name")
            logger.warning("%s", message)
