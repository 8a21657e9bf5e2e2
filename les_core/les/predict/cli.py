"""The command ``les predict``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.backends import Backend
from les.backends.arguments import add_model_options, identity_of_models, load_models
from les.backends.batches import BATCH_SIZE, MOST_ATOMS
from les.parser import ArgumentParser
from les.response.born import METHODS
from les.response.sum_rules import ACOUSTIC_SUMS

_DESCRIPTION = """\
Evaluate trained models on a file of structures.

Several models are a committee: their means are written, and as LES_..._std the standard
deviations over the models. Errors are printed where the structures have labels. Results are kept
in OUTPUT.journal until all are there: after an interruption, the same command with --resume
goes on.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status, 1 if a structure was left out."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    for name in ("bec_method", "acoustic_sum"):
        if getattr(arguments, name) and not arguments.bec:
            parser.error(f"--{name.replace('_', '-')} has no effect without --bec")
    if arguments.batch_size < 1:
        raise ValueError(f"`--batch-size` must be positive, got {arguments.batch_size}")
    *models, structures = arguments.files
    models = [*arguments.model, *models]
    if not models:
        raise ValueError("les predict needs a model file, and then a file of structures")
    from les.predict.evaluate import check, predict

    output = arguments.output
    check(output, [*models, structures], force=arguments.force, resume=arguments.resume)
    calculator, backends = load_models(
        arguments,
        models,
        bec=arguments.bec_method or arguments.bec,
        acoustic_sum=arguments.acoustic_sum,
    )
    prediction = predict(
        calculator,
        structures,
        output,
        _identity(arguments, models, backends),
        resume=arguments.resume,
        skip_bad=arguments.skip_bad,
        force=arguments.force,
        batch_size=arguments.batch_size,
    )
    if prediction.errors.sizes:
        from les.training.errors import table

        print(table({structures.name: prediction.errors}))
    if prediction.agreements.by_label:
        print(prediction.agreements.table())
    acoustic_sum = prediction.agreements.acoustic_sum()
    if acoustic_sum is not None and "bec" not in prediction.agreements.by_label:
        print(f"acoustic sum of Born effective charges (root mean square): {acoustic_sum:.3g} e")
    print(f"{prediction.n_written} structures written to {output}")
    for reason in prediction.bad:
        print(f"left out: {reason}", file=sys.stderr)
    if prediction.bad:
        total = prediction.n_written + len(prediction.bad)
        print(f"les: error: {len(prediction.bad)} of {total} structures left out", file=sys.stderr)
    return 1 if prediction.bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="les predict",
        usage="%(prog)s MODEL [MODEL ...] STRUCTURES [-o OUTPUT] [options]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="model files, and last the file of structures, of any format that ASE reads",
    )
    add(
        "--model",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a model file, as the first ones of FILE; several are a committee",
    )
    add(
        "--batch-size",
        type=int,
        default=BATCH_SIZE,
        metavar="N",
        help=f"structures that are evaluated together, up to {MOST_ATOMS} atoms ({BATCH_SIZE})",
    )
    add("-o", "--output", type=Path, default=Path("predictions.xyz"), help=".xyz or .traj")
    add("--force", action="store_true", help="replace OUTPUT if it is there")
    add("--resume", action="store_true", help="go on with an interrupted run, if there is one")
    add("--skip-bad", action="store_true", help="leave out structures that cannot be evaluated")
    add("--bec", action="store_true", help="also Born effective charges")
    add(
        "--bec-method",
        choices=METHODS,
        help="how they are evaluated: exactly, or as published (default: exact)",
    )
    add(
        "--acoustic-sum",
        choices=ACOUSTIC_SUMS,
        help="spread the sum of Born effective charges over the atoms, so that none is left "
        "(default: kept)",
    )
    add_model_options(parser)
    return parser


def _identity(
    arguments: argparse.Namespace, models: Sequence[Path], backends: Sequence[Backend]
) -> dict[str, Any]:
    """What the results depend on besides the structures."""
    return {
        **identity_of_models(arguments, models, backends),
        "--bec": arguments.bec,
        "--bec-method": arguments.bec_method or METHODS[0],
        "--acoustic-sum": arguments.acoustic_sum or ACOUSTIC_SUMS[0],
    }
