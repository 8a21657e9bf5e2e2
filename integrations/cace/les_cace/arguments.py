"""The arguments of ``les train cace``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from les.training.arguments import HelpFormatter, mapping, positive, rate
from les.training.arguments import parse as parse_with_file
from les.training.loop import SCHEDULERS, Stage

#: Options that mean nothing without LES.
OF_LES = ("les_arguments",)

#: Labels that can be trained on.
LABELS = ("energy", "forces", "stress")

#: Forces first, then the energy as well.
STAGES = "[{epochs: 75, energy: 1, forces: 100}, {epochs: 25, energy: 1000, forces: 100}]"


def decay(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return value


def stages(text: str) -> list[dict[str, Any]]:
    """Stages as in :data:`STAGES`, checked."""
    try:
        values = yaml.safe_load(text)
        if not isinstance(values, list):
            raise ValueError(f"must be a list such as {STAGES}")
        for value in values:
            if not isinstance(value, dict) or not set(value) <= {"epochs", *LABELS}:
                raise ValueError(f"a stage has epochs, {', '.join(LABELS)}; got {value!r}")
            to_stage(value)
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from error
    return values


def to_stage(value: dict[str, Any]) -> Stage:
    """One stage of the option ``--stages``."""
    weights = {label: float(value[label]) for label in LABELS if label in value}
    return Stage(int(value["epochs"]), weights)


def build_parser(les: bool) -> argparse.ArgumentParser:
    """The parser, with the options of LES if ``les``."""
    parser = argparse.ArgumentParser(
        prog="les train cace",
        description="Train CACE on extended XYZ files (eV, A).",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, help="YAML file of options, without their dashes")
    files = parser.add_argument_group("files")
    files.add_argument("--train_file", type=Path, required=True, help="extxyz, plain or .gz")
    files.add_argument("--valid_file", type=Path, required=True, help="decides the best epoch")
    files.add_argument("--test_file", type=Path, help="only for the final table")
    files.add_argument("--work_dir", type=Path, default=Path(), help="folder of the results")
    files.add_argument("--name", default="cace", help="start of the names of the results")
    files.add_argument("--resume", action="store_true", help="continue a run of this name")
    for label in LABELS:
        files.add_argument(
            f"--{label}_key", help=f"key of the {label}; default: REF_{label}, or without REF_"
        )
    model = parser.add_argument_group("model")
    model.add_argument("--from", dest="start", help="model file to start from")
    model.add_argument(
        "--model", type=mapping, help="arguments of les_cace.Representation, without --from"
    )
    model.add_argument("--readout", type=mapping, help="n_layers, n_hidden, add_linear_nn")
    model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep"),
        default="fit",
        help="shift reference energies per element to the training data, or leave them",
    )
    if les:
        model.add_argument(
            "--les_arguments", type=mapping, help="fields of les.LESConfig, or a YAML file of them"
        )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--stages", type=stages, default=stages(STAGES), help="weights in the loss, by epochs"
    )
    training.add_argument(
        "--epochs", type=positive, help="epochs in all, shared out as in --stages"
    )
    training.add_argument("--batch_size", type=positive, default=4, help="structures per step")
    training.add_argument(
        "--valid_batch_size", type=positive, default=8, help="structures per batch of validation"
    )
    training.add_argument("--learning_rate", type=rate, default=1e-2, help="of the first epoch")
    training.add_argument("--scheduler", choices=SCHEDULERS, default="cosine", help="its course")
    training.add_argument(
        "--patience", type=positive, default=10, help="epochs, with --scheduler plateau"
    )
    training.add_argument(
        "--ema_decay", type=decay, default=0.99, help="of averaged weights, 0 for none"
    )
    training.add_argument("--seed", type=int, default=1, help="of weights and order")
    training.add_argument("--device", default="cpu", help="where to train")
    training.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="precision"
    )
    return parser


def parse(arguments: Sequence[str], *, les: bool) -> argparse.Namespace:
    """The options; those on the command line win over those in ``--config``.

    Raises:
        ValueError: for an unknown key in the file.
        SystemExit: for what argparse refuses.
    """
    # One file serves both forms.
    return parse_with_file(build_parser(les), arguments, also_known=() if les else OF_LES)
