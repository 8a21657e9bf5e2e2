"""The arguments of ``les train chgnet``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from les.training.arguments import TrainingParser, mapping
from les.training.arguments import parse as parse_with_file
from les.training.ranges import rate, weight

#: Upstream's targets, one letter each: energy, forces, stress, magnetic moments.
TARGETS = ("ef", "efs", "efm", "efsm")

#: Options that mean nothing without LES.
OF_LES = ("les_arguments", "charge_learning_rate", "freeze_short_range")


def build_parser(les: bool) -> TrainingParser:
    """The parser, with the options of LES if ``les``."""
    parser = TrainingParser(
        "chgnet",
        "Train CHGNet with upstream's Trainer on extended XYZ files (eV, A).",
        les=les,
        labels=("energy", "forces", "stress", "magmoms"),
        help={
            "from": "pretrained model (0.3.0, 0.2.0, r2scan) or file to start from",
            "model": "arguments of CHGNet, without --from",
            "epochs": "number of epochs",
        },
        defaults={"epochs": 50, "batch_size": 8, "learning_rate": 1e-3},
    )
    model, training = parser.model, parser.training
    model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep", "train"),
        default="fit",
        help="shift reference energies per element to the training data, leave them, or shift and "
        "train them",
    )
    if les:
        model.add_argument(
            "--charge_learning_rate",
            type=rate,
            help="learning rate of the charges, which are new; default: that of all, or with "
            "--from ten times as much",
        )
        model.add_argument(
            "--freeze_short_range", action="store_true", help="train only the charges"
        )
    training.add_argument(
        "--targets", choices=TARGETS, default="ef", help="initials of what to train"
    )
    for name, ratio in (("energy", 1.0), ("force", 1.0), ("stress", 0.1), ("mag", 0.1)):
        training.add_argument(
            f"--{name}_loss_ratio", type=weight, default=ratio, help="weight in the loss"
        )
    training.add_argument("--trainer", type=mapping, help="further arguments of upstream's Trainer")
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
