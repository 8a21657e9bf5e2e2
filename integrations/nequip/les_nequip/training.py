"""Training through nequip-train, with LES put into the model of its configuration."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.errors import CompactHydraException, InstantiationException
from nequip.scripts import train as nequip_train
from omegaconf import OmegaConf

from les.config import read_yaml
from les_nequip.labels import checked_datasets, labels_in_loss
from les_nequip.settings import core_config
from les_nequip.slot import add_to_slot, add_to_trained, override_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from omegaconf import DictConfig

logger = logging.getLogger("les")

#: Registered by each run of upstream, which expects to be the first of its process.
RESOLVER = "training_data_stats"


def train(arguments: Sequence[str], *, les: bool) -> None:
    """Run ``nequip-train`` with its own ``arguments``, in this process.

    Without ``les`` this is upstream's run, untouched. With it, the slot ``pair_potential``
    of the configured model gets LES, as the override
    ``+training_module.model.pair_potential={_target_: les_nequip.LES}`` would do, and frames
    that lack a label in the loss are refused. Two arguments are added: ``--les_arguments``
    names a YAML file with settings of LES, and ``--from`` a trained short-range model (a
    checkpoint, which runs the code in it when it is loaded, or a package) to add LES to.

    Raises:
        ValueError: if LES cannot be added to the configured model; if labels are missing.
    """
    own = _own_parser()
    if {"-h", "--help"} & set(arguments):
        _print_help(own)
        return
    if not les:
        _run(arguments)
        return
    ours, rest = own.parse_known_args(arguments)
    theirs = get_args_parser().parse_args(rest)
    if theirs.multirun or theirs.experimental_rerun:
        raise ValueError(
            "--multirun and --experimental-rerun are not possible with --les; run les train "
            "once for each setting"
        )
    settings = {} if ours.les_arguments is None else _read_settings(ours.les_arguments)
    config = _compose(theirs)
    if config.get("ckpt_path") is not None:
        _check_continued(Path(config.ckpt_path), changed=bool(settings or ours.start))
    if ours.start is None:
        overrides = add_to_slot(config, settings)
    else:
        overrides = add_to_trained(config, ours.start, settings)
    for override in overrides:
        logger.info("override: %s", override)
    with checked_datasets(labels_in_loss(config)):
        _run([*rest, *overrides])


def _check_continued(checkpoint: Path, *, changed: bool) -> None:
    """Upstream takes the whole model of a continued run from its checkpoint."""
    if changed:
        raise ValueError(
            "--les_arguments and --from have no effect on a run that `ckpt_path` continues"
        )
    if not checkpoint.is_file():
        raise ValueError(f"ckpt_path: there is no file {checkpoint}")
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    if not any(".readout.network." in name for name in state):
        raise ValueError(
            f"ckpt_path: {checkpoint} is of a run without LES and would continue without it; "
            "add LES to its model with --from"
        )


def _own_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("with --les")
    group.add_argument(
        "--les_arguments",
        type=Path,
        metavar="YAML",
        help="settings of LES: those of les.LESConfig, boundary, max_cell and compute_bec",
    )
    group.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="MODEL",
        help="trained short-range model (.ckpt or .nequip.zip) to add LES to; it replaces the "
        "model of the configuration",
    )
    return parser


def _print_help(own: argparse.ArgumentParser) -> None:
    upstream = get_args_parser()
    for action in upstream._actions:
        if not isinstance(action.help, str):  # made up later by Hydra
            action.help = "Install or uninstall shell completion"
    argparse.ArgumentParser(
        "les train {nequip,allegro}",
        description="Trains what a configuration file describes, with the arguments of "
        "nequip-train: -cn NAME [-cp FOLDER] and overrides such as max_epochs=10.",
        parents=[upstream, own],
        add_help=False,
    ).print_help()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = read_yaml(path)
        core_config(settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return settings


def _compose(arguments: argparse.Namespace) -> DictConfig:
    """The configuration that upstream is going to see."""
    name = (arguments.config_name or "config").removesuffix(".yaml")
    folders = [_config_path(arguments)]
    if arguments.config_dir is not None:
        folders.insert(0, os.path.abspath(arguments.config_dir))
    # Hydra's interface for programs knows one folder to start from, and others beside it.
    folders.sort(key=lambda folder: not Path(folder, f"{name}.yaml").is_file())
    overrides = list(arguments.overrides)
    if len(folders) > 1:
        overrides.append(f"hydra.searchpath={override_text([f'file://{folders[1]}'])}")
    try:
        with initialize_config_dir(folders[0], version_base=None):
            return compose(name, overrides)
    except CompactHydraException as error:
        raise ValueError(str(error)) from error


def _config_path(arguments: argparse.Namespace) -> str:
    """Folder of the configuration; upstream's default, where the program was started."""
    path = arguments.config_path or os.getcwd()
    if path.startswith("pkg://"):
        raise ValueError(f"--config-path must be a folder, got {path}")
    return os.path.abspath(path)


def _run(arguments: Sequence[str]) -> None:
    """``nequip-train``, which reads its arguments from ``sys.argv``."""
    # Upstream remembers the folder it was imported in, and takes relative ones from its own.
    parsed = get_args_parser().parse_args(list(arguments))
    path = () if parsed.experimental_rerun else ("--config-path", _config_path(parsed))
    # Further processes of a distributed run start this program.
    program = Path(sys.executable).with_name("nequip-train")
    with _arguments([str(program), *arguments, *path]):
        try:
            nequip_train.main()
        except InstantiationException as error:
            cause: BaseException | None = error
            while isinstance(cause, InstantiationException):  # one for each level of sections
                cause = cause.__cause__
            if isinstance(cause, (ValueError, OSError)):
                raise ValueError(str(cause)) from error
            raise
        finally:
            OmegaConf.clear_resolver(RESOLVER)


@contextlib.contextmanager
def _arguments(values: list[str]) -> Iterator[None]:
    original = sys.argv
    sys.argv = values
    try:
        yield
    finally:
        sys.argv = original
