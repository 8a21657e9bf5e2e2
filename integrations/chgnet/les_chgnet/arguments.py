"""The arguments of ``les train chgnet``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from les.training.arguments import HelpFormatter, mapping, positive, rate, weight
from les.training.arguments import parse as parse_with_file

#: Upstream's targets, one letter each: energy, forces, stress, magnetic moments.
TARGETS = ("ef", "efs", "efm", "efsm")

#: Options that mean nothing without LES.
OF_LES = ("les_arguments", "charge_learning_rate", "freeze_short_range")


def build_parser(les: bool) -> argparse.ArgumentParser:
    """The parser, with the options of LES if ``les``."""
    parser = argparse.ArgumentParser(
        prog="les train chgnet",
        description="Train CHGNet with upstream's Trainer on extended XYZ files (eV, A).",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, help="YAML file of options, without their dashes")
    files = parser.add_argument_group("files")
    files.add_argument("--train_file", type=Path, required=True, help="extxyz, plain or .gz")
    files.add_argument("--valid_file", type=Path, required=True, help="decides which epoch is best")
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
            type=mapping,
            help="fields of les.LESConfig, or a YAML file of them",
        )
        model.add_argument(
            "--charge_learning_rate",
            type=rate,
            help="learning rate of the charges, which are new; default: that of all, or with "
            "--from ten times as much",
        )
        model.add_argument(
            "--freeze_short_range", action="store_true", help="train only the charges"
        )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--targets", choices=TARGETS, default="ef", help="initials of what to train"
    )
    training.add_argument("--epochs", type=positive, default=50, help="number of epochs")
    training.add_argument("--batch_size", type=positive, default=8, help="structures per step")
    training.add_argument(
        "--valid_batch_size", type=positive, default=8, help="structures per batch of validation"
    )
    training.add_argument("--learning_rate", type=rate, default=1e-3, help="of the first epoch")
    for name, ratio in (("energy", 1.0), ("force", 1.0), ("stress", 0.1), ("mag", 0.1)):
        training.add_argument(
            f"--{name}_loss_ratio", type=weight, default=ratio, help="weight in the loss"
        )
    training.add_argument("--trainer", type=mapping, help="further arguments of upstream's Trainer")
    training.add_argument("--seed", type=int, default=1, help="of weights and order")
    training.add_argument("--device", help="default: upstream's choice")
    return parser


def parse(arguments: Sequence[str], *, les: bool, start: str | None = None) -> argparse.Namespace:
    """The options; those on the command line win over those in ``--config``.

    Args:
        arguments: the command line.
        les: with the options of LES.
        start: ``--from`` where neither has that nor ``--model``.

    Raises:
        ValueError: for an unknown key in the file.
        SystemExit: for what argparse refuses.
    """
    # One file serves both forms.
    options = parse_with_file(build_parser(les), arguments, also_known=() if les else OF_LES)
    if options.start is None and options.model is None:
        options.start = start
    return options
