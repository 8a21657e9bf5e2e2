"""The arguments of ``les train chgnet``; a configuration file holds any of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from les.training.arguments import OF_LES, TrainingParser, mapping
from les.training.arguments import parse as parse_with_file
from les.training.ranges import weight
from les.training.stages import EXAMPLE, Stage, stage_list, to_stages

#: Upstream's targets, one letter each: energy, forces, stress, magnetic moments.
TARGETS = ("ef", "efs", "efm", "efsm")

#: Label that can be trained on, in the order of upstream's letters -> option of its weight.
RATIOS = {
    "energy": "energy_loss_ratio",
    "forces": "force_loss_ratio",
    "stress": "stress_loss_ratio",
    "magmoms": "mag_loss_ratio",
}

#: Defaults of options that ``--stages`` takes the place of.
EPOCHS = 50
DEFAULT_RATIOS = dict(zip(RATIOS.values(), (1.0, 1.0, 0.1, 0.1), strict=True))


def build_parser(les: bool) -> TrainingParser:
    """The parser, with the options of LES if ``les``."""
    parser = TrainingParser(
        "chgnet",
        "Train CHGNet with upstream's Trainer on extended XYZ files (eV, A).",
        les=les,
        labels=tuple(RATIOS),
        help={
            "from": "pretrained model (0.3.0, 0.2.0, r2scan) or file to start from",
            "model": "arguments of CHGNet, without --from",
            "epochs": f"number of epochs, with --stages shared out as there; default: {EPOCHS}",
        },
        defaults={"batch_size": 8, "learning_rate": 1e-3},
    )
    model, training = parser.model, parser.training
    model.add_argument(
        "--atomic_energies",
        choices=("fit", "keep", "train"),
        default="fit",
        help="shift reference energies per element to the training data, leave them, or shift and "
        "train them",
    )
    for action in model._group_actions:
        if action.dest == "charge_learning_rate":
            action.help = (
                "learning rate of the charges; default: that of all, or ten times as much where "
                "they are added by --from"
            )
    training.add_argument(
        "--targets", choices=TARGETS, default="ef", help="initials of what to train"
    )
    for option, ratio in DEFAULT_RATIOS.items():
        training.add_argument(
            f"--{option}", type=weight, help=f"weight in the loss; default: {ratio}"
        )
    training.add_argument(
        "--stages",
        type=stage_list(RATIOS),
        help=f"weights in the loss, by epochs, instead of --*_loss_ratio, such as {EXAMPLE}",
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
        ValueError: for an unknown key in the file, and for weights that ``--stages`` has as well.
        SystemExit: for what argparse refuses.
    """
    # One file serves both forms.
    options = parse_with_file(build_parser(les), arguments, also_known=() if les else OF_LES)
    if options.start is None and options.model is None:
        options.start = start
    for option, ratio in DEFAULT_RATIOS.items():
        if getattr(options, option) is None:
            setattr(options, option, ratio)
        elif options.stages is not None:
            raise ValueError(f"--stages excludes --{option}: each stage has its own weights")
    if options.stages is None and options.epochs is None:
        options.epochs = EPOCHS
    return options


def training_stages(options: argparse.Namespace) -> list[Stage]:
    """The stages of a training: those of ``--stages``, or else one.

    Raises:
        ValueError: for a weight of what is no target, and a target without a weight, which would
            have no effect.
    """
    if options.stages is None:
        weights = {label: getattr(options, option) for label, option in RATIOS.items()}
        return [Stage(options.epochs, weights)]
    targets = {label for label, letter in zip(RATIOS, "efsm") if letter in options.targets}
    weighted = {label for stage in options.stages for label in stage} - {"epochs"}
    for label in sorted(targets ^ weighted):
        has = "a" if label in weighted else "no"
        raise ValueError(
            f"--stages has {has} weight of the {label}, but --targets is {options.targets}"
        )
    return to_stages(options.stages, options.epochs)
