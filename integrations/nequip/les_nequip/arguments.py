"""The arguments of ``les train nequip`` and ``les train allegro``.

They are those of the other models, turned into overrides of upstream's configurations, and
beside them those of Hydra, which ``nequip-train`` has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from les.devices import resolve_device
from les.parser import brief_errors
from les.training.arguments import TrainingParser, label_keys
from les.training.external_field import add_field_key
from les_nequip.field_keys import FIELDS
from les_nequip.overrides import override_text, set_section

#: Options that are variables at the top of a configuration.
VARIABLES = {
    "train_file": "train_file",
    "valid_file": "valid_file",
    "epochs": "max_epochs",
    "batch_size": "batch_size",
    "valid_batch_size": "valid_batch_size",
    "learning_rate": "learning_rate",
    "seed": "seed",
    "device": "accelerator",
}
#: A second learning rate, of another optimiser, which keeps its ratio to the first.
SECOND_RATE = "adam_learning_rate"

#: Options that say where a run leaves its results, as that of the other models do.
OF_THE_RUN = ("config", "train_file", "valid_file", "test_file", "work_dir", "name", "resume")


def build_parser(backend: str, les: bool) -> TrainingParser:
    """The parser of our options, none of which has a default: the configuration says the rest."""
    parser = TrainingParser(
        backend,
        "Train what a configuration describes with nequip-train, whose own arguments, such as "
        "-cn NAME [-cp FOLDER] and overrides such as max_epochs=10, may stand beside these.",
        les=les,
        labels=tuple(FIELDS),
        help={
            "from": "model to train further, or to add LES to (.nequip.pt, .ckpt, .nequip.zip)",
            "model": "changes of `training_module.model` of the configuration",
            "epochs": "number of epochs",
        },
        defaults={},
    )
    add_field_key(parser)
    parser.model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep"),
        help="shift atomic energies to the training data, at the start and in the second stage, or "
        "keep them; default: as the configuration says",
    )
    helps = {
        "config": "configuration of nequip-train: a YAML file, or a name of `les config list`",
        "device": "auto (a GPU if there is one), cpu, cuda; default: that of the configuration",
    }
    for action in parser._actions:
        action.help = helps.get(action.dest, action.help)
        action.required = False
        if not isinstance(action, argparse._StoreTrueAction) and action.dest != "help":
            action.default = None
    return parser


def parse(
    backend: str, arguments: Sequence[str], *, les: bool
) -> tuple[argparse.Namespace, argparse.Namespace, list[str]]:
    """Our options, Hydra's, and the arguments that are Hydra's.

    Raises:
        ValueError: for arguments that exclude each other.
        SystemExit: for arguments that neither of us knows.
    """
    own, parser = build_parser(backend, les), get_args_parser()
    parser.allow_abbrev = False
    brief_errors(parser)
    ours, rest = own.parse_known_args(arguments)
    flags, overrides = _apart(rest, parser)
    if ours.config is not None:
        if any(text.startswith(("-cn", "-cp", "--config")) for text in flags):
            raise ValueError("--config excludes --config-name, --config-path and --config-dir")
        if ours.config.suffix != ".yaml":
            raise ValueError(
                f"--config: the name of a configuration of nequip-train must end with .yaml, got "
                f"{ours.config}"
            )
        flags += ["--config-path", str(ours.config.absolute().parent)]
        flags += ["--config-name", ours.config.stem]
    theirs, unknown = parser.parse_known_args([*flags, *overrides])
    if unknown:
        own.error(f"unrecognized arguments: {unknown[0]}")
    if theirs.multirun or theirs.experimental_rerun:
        raise ValueError(
            "--multirun and --experimental-rerun are not possible here; run les train once for "
            "each setting"
        )
    return ours, theirs, [*flags, *overrides]


def _apart(
    arguments: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Options of Hydra with their values, and its overrides, which argparse wants in one piece."""
    takes_value = {
        text for action in parser._actions if action.nargs is None for text in action.option_strings
    }
    flags: list[str] = []
    overrides: list[str] = []
    for before, text in zip(["", *arguments], arguments):
        is_flag = text.startswith("-") or before in takes_value
        (flags if is_flag else overrides).append(text)
    return flags, overrides


def print_help(backend: str, les: bool) -> None:
    """What ``--help`` shows: our options, then Hydra's."""
    upstream = get_args_parser()
    for action in upstream._actions:
        if not isinstance(action.help, str):  # made up later by Hydra
            action.help = "Install or uninstall shell completion"
    text = upstream.format_help().partition("\n\n")[2]
    sys.stdout.write(f"{build_parser(backend, les).format_help()}\nof nequip-train:\n{text}")


def translated(options: argparse.Namespace, config: DictConfig) -> list[str]:
    """Overrides of ``config`` that do what ``options`` say.

    Raises:
        ValueError: if the configuration lacks the variable that an option sets.
    """
    given = {name: x for name, x in vars(options).items() if x is not None}
    overrides = []
    for name, variable in VARIABLES.items():
        if name not in given:
            continue
        if variable not in config:
            raise ValueError(
                f"--{name} has no effect: the configuration has no variable `{variable}` at its "
                "top, as those of `les config list` have"
            )
        value = given[name]
        if isinstance(value, Path):
            value = str(value.absolute())
        if name == "device":
            device = resolve_device(value)
            value = "gpu" if device.type == "cuda" else device.type
            if device.index is not None:
                overrides.append(f"++trainer.devices=[{device.index}]")
        if name == "learning_rate" and SECOND_RATE in config:
            second = value * config[SECOND_RATE] / config[variable]
            overrides.append(f"{SECOND_RATE}={second!r}")
        overrides.append(f"{variable}={override_text(value)}")
    overrides += _key_mapping(options, config)
    for key, value in given.get("model", {}).items():
        overrides.append(f"++training_module.model.{key}={override_text(value)}")
    return overrides


def _key_mapping(options: argparse.Namespace, config: DictConfig) -> list[str]:
    """The override of ``data.key_mapping`` that the options with keys make."""
    keys = label_keys(options, FIELDS)
    if not keys:
        return []
    before = OmegaConf.select(config, "data.key_mapping")
    fields = {FIELDS[label] for label in keys}
    mapping = {key: field for key, field in (before or {}).items() if field not in fields}
    mapping.update({key: FIELDS[label] for label, key in keys.items()})
    return set_section("data.key_mapping", mapping, exists=before is not None)
