"""``les train nequip``: what is asked for as a run of ``nequip-train``, and what comes of it."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from les.config import LESConfig
from les.data.atoms import ANY_AXES
from les.data.requirements import Requirements
from les.legacy import settings_of_new_models
from les.training.arguments import label_keys
from les.training.closing import close
from les.training.external_field import check_field_key
from les.training.responses import check_responses, response_weights
from les_nequip.arguments import OF_THE_RUN, parse, print_help, translated
from les_nequip.atomic_energies import energy_overrides
from les_nequip.charge_training import charge_overrides
from les_nequip.configured import resolved
from les_nequip.field_keys import FIELDS
from les_nequip.labels import LabelledFiles, has_charged, require_field
from les_nequip.model_files import PLAIN, load_model, read_stored, save_model
from les_nequip.overrides import override_text
from les_nequip.program import Outcome, run
from les_nequip.responses import requirements_of, with_responses, with_trained_sign
from les_nequip.runs import RunFolder, check_continued
from les_nequip.sections import is_unpickling, nested, refuse_consent
from les_nequip.settings import core_config
from les_nequip.slot import add_to_slot, start_from

if TYPE_CHECKING:
    from les.backends import Backend

logger = logging.getLogger("les")


def train(arguments: Sequence[str], *, les: bool, backend: Backend) -> None:
    """Run ``nequip-train`` in this process, and say what has come of it.

    The arguments are those of the other models, which are turned into overrides, and those of
    ``nequip-train``. With ``les``, the slot ``pair_potential`` of the configured model gets LES, as
    the override ``+training_module.model.pair_potential={_target_: les_nequip.LES}`` would do with
    the settings of a new model besides; ``--from`` replaces the model by a trained one.

    Raises:
        FileNotFoundError, ValueError: for arguments that are wrong, contradict each other or have
            no effect; for data and files that cannot be used.
    """
    if {"-h", "--help"} & set(arguments):
        print_help(backend.name, les)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options, theirs, rest = parse(backend.name, arguments, les=les)
    settings = _settings(options) if les else {}
    command = _Command(theirs, rest)
    command.add(translated(options, command.compose()))
    config = command.compose()
    if "plugins" not in config.get("trainer", {}):
        command.add(["+trainer.plugins=[{_target_: les_nequip.checkpoints.WholeFiles}]"])
    folder = _folder(options, theirs.overrides, backend)
    if folder is None:
        _train(command, options, settings, None, False, les=les, backend=backend)
        return
    command.add([f"hydra.run.dir={override_text(str(folder.folder.absolute()))}"])
    kept = _kept(folder, options, config, les)
    with folder.claim(kept, resume=options.resume) as resumed:
        _train(command, options, settings, folder, resumed, les=les, backend=backend)


def _train(
    command: _Command,
    options: argparse.Namespace,
    settings: dict[str, Any],
    folder: RunFolder | None,
    resumed: bool,
    *,
    les: bool,
    backend: Backend,
) -> None:
    """Carry out the run, in a ``folder`` that is its own."""
    config = command.compose()
    if config.get("ckpt_path") is not None and (resumed or settings or options.start):
        given = "--resume" if resumed else "--les_arguments and --from"
        raise ValueError(f"`ckpt_path` names a run to continue, on which {given} has no effect")
    _check_named_files(config, options.allow_pickle)
    if folder is not None and resumed:
        command.add([f"++ckpt_path={override_text(str(folder.last.absolute()))}"])
    command.add(_model(options, config, settings, les=les))
    weights = response_weights(options)
    check_responses(weights, LESConfig() if les else None)
    in_field = les and requirements_of(command.compose()).external_field
    check_field_key(options, LESConfig(external_field=in_field) if les else None)
    command.add(with_responses(command.compose(), weights, in_field=in_field))
    if les:
        command.add(
            charge_overrides(
                command.compose(), options.freeze_short_range_epochs, options.charge_learning_rate
            )
        )
    command.add(energy_overrides(command.compose(), options.atomic_energies))
    config = command.compose()
    requirements = requirements_of(config) if les else Requirements(axes=ANY_AXES)
    paths = [*_data_files(config), *([options.test_file] if options.test_file else [])]
    if in_field:
        trained = OmegaConf.select(config, "data.train_file_path")
        own = [trained] if isinstance(trained, str) else _data_files(config)
        require_field(own, _ase_args(config), requirements, options.external_field_key)
    if (
        requirements.total_charge
        and not (weights or in_field)
        and has_charged(paths, _ase_args(config), requirements)
    ):
        command.add(with_trained_sign(config))
        config = command.compose()
    if config.get("ckpt_path") is not None:
        check_continued(
            Path(config.ckpt_path),
            config,
            les=les,
            allow_pickle=options.allow_pickle,
            strict=resumed,
        )
    keys = label_keys(options, FIELDS)
    files = LabelledFiles.of(
        config,
        requirements,
        exact=[FIELDS[label] for label in keys],
        responses={label: getattr(options, f"{label}_key") for label in weights},
        external_field_key=options.external_field_key,
    )
    for label in keys:
        if FIELDS[label] not in files.fields:
            raise ValueError(f"--{label}_key has no effect: the loss compares no {label}")
    if options.test_file is not None:
        files.check(options.test_file, OmegaConf.select(config, "data.key_mapping"))
    with files.reading():
        outcome = run([*command.rest, *command.overrides], command.config_path)
    if outcome is not None:
        target = folder.model if folder else outcome.best.with_name(f"{command.name}{PLAIN}")
        sets = _sets(files, config, options.test_file)
        _close(backend, outcome, target, sets, bec="bec" in weights)


class _Command:
    """A command line of upstream, with further overrides."""

    def __init__(self, theirs: argparse.Namespace, rest: Sequence[str]) -> None:
        self.theirs = theirs
        self.rest = list(rest)
        self.overrides: list[str] = []
        self.name = (theirs.config_name or "config").removesuffix(".yaml")
        path = theirs.config_path or os.getcwd()
        if path.startswith("pkg://"):
            raise ValueError(f"--config-path must be a folder, got {path}")
        self.config_path = os.path.abspath(path)

    def add(self, overrides: Sequence[str]) -> None:
        for override in overrides:
            logger.info("override: %s", override)
        self.overrides += overrides

    def compose(self) -> DictConfig:
        """The configuration that upstream is going to see."""
        folders = [self.config_path]
        if self.theirs.config_dir is not None:
            folders.insert(0, os.path.abspath(self.theirs.config_dir))
        # Hydra's interface for programs knows one folder to start from, and others beside it.
        folders.sort(key=lambda folder: not Path(folder, f"{self.name}.yaml").is_file())
        if not Path(folders[0], f"{self.name}.yaml").is_file():
            raise ValueError(
                f"there is no configuration {Path(folders[0], self.name)}.yaml; name one with "
                "--config FILE, or --config NAME of `les config list`"
            )
        overrides = [*self.theirs.overrides, *self.overrides]
        if len(folders) > 1:
            overrides.append(f"hydra.searchpath={override_text([f'file://{folders[1]}'])}")
        try:
            with initialize_config_dir(folders[0], version_base=None):
                return compose(self.name, overrides)
        except CompactHydraException as error:
            raise ValueError(str(error)) from error


def _check_named_files(config: DictConfig, allow_pickle: bool) -> None:
    """Check the files of models that the configuration names to be unpickled by upstream."""
    values = resolved(config)
    if not allow_pickle:
        refuse_consent(values, "the configuration")
    for section in nested(values, "the configuration"):
        if isinstance(section, Mapping) and is_unpickling(section):
            for key in ("checkpoint_path", "package_path"):
                if key in section:
                    read_stored(section[key], allow_pickle=allow_pickle)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of LES, checked."""
    settings: dict[str, Any] = options.les_arguments or {}
    try:
        core_config({**settings_of_new_models(True), **settings})
    except ValueError as error:
        raise ValueError(f"--les_arguments: {error}") from error
    return settings


def _folder(
    options: argparse.Namespace, overrides: Sequence[str], backend: Backend
) -> RunFolder | None:
    """Where the run is to leave its results; Hydra's choice without any of our options."""
    given = [name for name in OF_THE_RUN if getattr(options, name)]
    if not given:
        return None
    if any(text.startswith("hydra.run.dir=") for text in overrides):
        given = [name for name in given if name in ("work_dir", "name", "resume")]
        if given:
            raise ValueError(f"hydra.run.dir excludes --{given[0]}")
        return None
    return RunFolder(options.work_dir or Path(), options.name or backend.name)


def _kept(
    folder: RunFolder, options: argparse.Namespace, config: DictConfig, les: bool
) -> dict[str, Any]:
    """What a run that continues this one must agree with; it may be longer."""
    values = {name: x for name, x in vars(options).items() if name != "epochs" and x is not None}
    for name in ("train_file", "valid_file"):
        values[name] = str(values.get(name) or config.get(name) or "")
    return folder.files.settings(values, les)


def _model(
    options: argparse.Namespace, config: DictConfig, settings: dict[str, Any], *, les: bool
) -> list[str]:
    """Overrides of the model section."""
    if options.start is None:
        return add_to_slot(config, settings) if les else []
    if options.model:
        raise ValueError("--from excludes --model: the model has its own settings")
    return start_from(
        config, Path(options.start), settings, les=les, allow_pickle=options.allow_pickle
    )


def _data_files(config: DictConfig) -> list[Path]:
    """The files that the data sets of the configuration are read from."""
    values = nested(resolved(OmegaConf.select(config, "data")), "the configuration")
    paths = [Path(text) for text in values if isinstance(text, str) and text]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _ase_args(config: DictConfig) -> Mapping[str, Any]:
    """How they are read."""
    return resolved(OmegaConf.select(config, "data.ase_args")) or {}


def _sets(files: LabelledFiles, config: DictConfig, test_file: Path | None) -> dict[str, Any]:
    """The labelled frames of the run's files, by the names of the sets."""
    paths: dict[str, str] = {}
    for name, key in (("train", "train"), ("valid", "val"), ("test", "test")):
        found = OmegaConf.select(config, f"data.{key}_file_path")
        several = list(found) if OmegaConf.is_list(found) else [found]
        for index, path in enumerate(several):
            if isinstance(path, str) and path in files.ase_args:
                paths[f"{name} {index}" if len(several) > 1 else name] = path
    if not paths:  # one file that is split, or data by another name
        paths = {Path(path).name: path for path in files.ase_args}
    if test_file is not None:
        paths["test"] = str(test_file)
    return {name: files.labelled(path) for name, path in paths.items()}


def _close(
    backend: Backend, outcome: Outcome, target: Path, sets: dict[str, Any], *, bec: bool
) -> None:
    """Write the best model as plain values, and say how good it is and how to use it."""
    try:
        model = load_model(outcome.best)
    except ValueError as error:
        logger.warning("the best model is in %s only: %s", outcome.best, error)
        return
    save_model(model, target)
    close(backend, target, sets, device=str(outcome.device), bec=bec)
