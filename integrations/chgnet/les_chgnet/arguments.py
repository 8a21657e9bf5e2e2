"""The arguments of ``les train chgnet``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from les.config import read_yaml, refuse_unknown

#: Upstream's targets, one letter each: energy, forces, stress, magnetic moments.
TARGETS = ("ef", "efs", "efm", "efsm")


def mapping(text: str) -> dict[str, Any]:
    """A YAML mapping on the command line, such as ``'{sigma: 1.0}'``."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a mapping such as '{{key: 1}}', got {text!r}")
    return value


def mapping_or_file(text: str) -> dict[str, Any]:
    """A YAML mapping on the command line, or the path of a YAML file that holds one."""
    if not text.lstrip().startswith("{"):
        try:
            return read_yaml(text)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    return mapping(text)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def build_parser(les: bool) -> argparse.ArgumentParser:
    """The parser, with the options of LES if ``les``."""
    parser = argparse.ArgumentParser(
        prog="les train chgnet",
        description="Train CHGNet with upstream's Trainer on extended XYZ files (eV, A).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, help="YAML file of options, without their dashes")
    files = parser.add_argument_group("files")
    files.add_argument("--train_file", type=Path, required=True, help="extxyz, plain or .gz")
    files.add_argument("--valid_file", type=Path, required=True)
    files.add_argument("--test_file", type=Path, help="only for the final table")
    files.add_argument("--work_dir", type=Path, default=Path(), help="folder of the results")
    files.add_argument("--name", default="chgnet", help="start of the names of the results")
    files.add_argument("--resume", action="store_true", help="continue a run of this name")
    for label in ("energy", "forces", "stress", "magmoms"):
        files.add_argument(
            f"--{label}_key", help=f"key of the {label}; default: REF_{label}, or without REF_"
        )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--from", dest="start", help="pretrained model (0.3.0, 0.2.0, r2scan) or file to start from"
    )
    model.add_argument("--allow-pickle", action="store_true", help="read a pickled --from")
    model.add_argument("--model", type=mapping, help="arguments of CHGNet, without --from")
    model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep", "train"),
        default="fit",
        help="shift reference energies per element to the training data, leave them, or shift and "
        "train them",
    )
    if les:
        model.add_argument(
            "--les_arguments",
            type=mapping_or_file,
            help="fields of les.LESConfig, or a YAML file of them",
        )
        model.add_argument(
            "--freeze_short_range", action="store_true", help="train only the charges"
        )
    training = parser.add_argument_group("training")
    training.add_argument("--targets", choices=TARGETS, default="ef")
    training.add_argument("--epochs", type=_positive, default=50)
    training.add_argument("--batch_size", type=_positive, default=8)
    training.add_argument("--valid_batch_size", type=_positive, default=8)
    training.add_argument("--learning_rate", type=float, default=1e-3)
    training.add_argument("--energy_loss_ratio", type=float, default=1.0)
    training.add_argument("--force_loss_ratio", type=float, default=1.0)
    training.add_argument("--stress_loss_ratio", type=float, default=0.1)
    training.add_argument("--mag_loss_ratio", type=float, default=0.1)
    training.add_argument("--trainer", type=mapping, help="further arguments of upstream's Trainer")
    training.add_argument("--seed", type=int, default=1)
    training.add_argument("--device", help="default: upstream's choice")
    return parser


def parse(arguments: Sequence[str], *, les: bool) -> argparse.Namespace:
    """The options; those on the command line win over those in ``--config``.

    Raises:
        ValueError: for an unknown key in the file, or one that is of LES without ``les``.
        SystemExit: for what argparse refuses.
    """
    parser = build_parser(les)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return parser.parse_args(arguments)
    try:
        values = read_yaml(path)
        options = {
            option for action in build_parser(True)._actions for option in action.option_strings
        }
        known = {option[2:] for option in options if option.startswith("--")} - {"help", "config"}
        refuse_unknown(values, known)
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {path}: {error}") from error
    if not les:  # one file serves both
        values = {key: x for key, x in values.items() if key not in OF_LES}
    return parser.parse_args([*_as_arguments(values), *arguments])


#: Options that mean nothing without LES.
OF_LES = ("les_arguments", "freeze_short_range")


def _as_arguments(values: Mapping[str, Any]) -> list[str]:
    """What one would type for ``values``."""
    arguments = []
    for key, value in values.items():
        if value is True:
            arguments.append(f"--{key}")
        elif isinstance(value, dict):
            arguments.append(f"--{key}={json.dumps(value)}")
        elif value is not None and value is not False:
            arguments.append(f"--{key}={value}")
    return arguments
