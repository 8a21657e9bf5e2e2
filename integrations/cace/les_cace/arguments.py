"""The arguments of ``les train cace``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from les.training.arguments import OF_LES, TrainingParser, mapping
from les.training.arguments import parse as parse_with_file
from les.training.loop import SCHEDULERS
from les.training.ranges import positive
from les.training.stages import EXAMPLE, stage_list

#: Labels that can be trained on.
LABELS = ("energy", "forces", "stress")


def decay(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return value


def build_parser(les: bool) -> TrainingParser:
    """The parser, with the options of LES if ``les``."""
    parser = TrainingParser(
        "cace",
        "Train CACE on extended XYZ files (eV, A).",
        les=les,
        labels=LABELS,
        help={
            "from": "model file to start from, or with --allow-pickle a published model",
            "model": "arguments of les_cace.Representation, without --from",
            "epochs": "epochs in all, shared out as in --stages",
        },
        defaults={"batch_size": 4, "learning_rate": 5e-3},
    )
    model, training = parser.model, parser.training
    model.add_argument("--readout", type=mapping, help="n_layers, n_hidden, add_linear_nn")
    model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep"),
        default="fit",
        help="shift reference energies per element to the training data, or leave them: those of a "
        "new model are zero",
    )
    if les:
        model.add_argument(
            "--random_charges",
            action="store_true",
            default=argparse.SUPPRESS,  # older runs, which may be continued, do not have it
            help="give each element a random charge and keep it, as a control",
        )
    training.add_argument(
        "--stages",
        type=stage_list(LABELS),
        default=stage_list(LABELS)(EXAMPLE),
        help="weights in the loss, by epochs",
    )
    training.add_argument(
        "--scheduler", choices=SCHEDULERS, default="cosine", help="course of the learning rate"
    )
    training.add_argument(
        "--patience", type=positive, default=10, help="epochs, with --scheduler plateau"
    )
    training.add_argument(
        "--ema_decay", type=decay, default=0.99, help="of averaged weights, 0 for none"
    )
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
    return parse_with_file(
        build_parser(les), arguments, also_known=() if les else ("random_charges", *OF_LES)
    )
