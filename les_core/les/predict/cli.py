"""The command ``les predict``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.backends import Backend, backend_names, backend_of, get_backend
from les.backends.loading import load_calculator
from les.parser import ArgumentParser
from les.ranges import check_number
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
    if arguments.eps_inf is not None:
        check_number("--eps-inf", arguments.eps_inf, "epsilon_factor")
    *models, structures = arguments.files
    if not models:
        raise ValueError("les predict needs a model file, and then a file of structures")
    from les.predict.evaluate import check, predict

    output = arguments.output
    check(output, arguments.files, force=arguments.force, resume=arguments.resume)
    options = {
        "dtype": arguments.dtype,
        "bec": arguments.bec_method or arguments.bec,
        "allow_pickle": arguments.allow_pickle,
        "device": _device(arguments.device),
        "head": arguments.head,
        "acoustic_sum": arguments.acoustic_sum,
        "eps_inf": arguments.eps_inf,
    }
    backends = [get_backend(arguments.backend or backend_of(model)) for model in models]
    calculators = [
        load_calculator(backend, model, **options)
        for backend, model in zip(backends, models, strict=True)
    ]
    calculator = calculators[0]
    if len(models) > 1:
        from les.backends.committee import Committee

        calculator = Committee(calculators, names=[str(model) for model in models])
    prediction = predict(
        calculator,
        structures,
        output,
        _identity(arguments, models, backends),
        resume=arguments.resume,
        skip_bad=arguments.skip_bad,
        force=arguments.force,
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
    add("-o", "--output", type=Path, default=Path("predictions.xyz"), help=".xyz or .traj")
    add("--force", action="store_true", help="replace OUTPUT if it is there")
    add("--resume", action="store_true", help="go on with an interrupted run, if there is one")
    add("--skip-bad", action="store_true", help="leave out structures that cannot be evaluated")
    add("--backend", choices=backend_names(), help="default: that of files with this ending")
    add("--head", help="of a model with several heads")
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
    add(
        "--eps-inf",
        type=float,
        metavar="EPS",
        help="high-frequency dielectric constant: multiply charges, dipoles, quadrupoles and Born "
        "effective charges by sqrt(EPS / epsilon_factor of the model)",
    )
    add("--allow-pickle", action="store_true", help="read pickled models")
    add("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    add(
        "--dtype",
        default="float64",
        choices=("float32", "float64"),
        help="precision of the model (default: %(default)s)",
    )
    return parser


def _device(name: str) -> str:
    from les.devices import resolve_device

    return str(resolve_device(name))


def _identity(
    arguments: argparse.Namespace, models: Sequence[Path], backends: Sequence[Backend]
) -> dict[str, Any]:
    """What the results depend on besides the structures."""
    from les import __version__
    from les.files import checksum

    return {
        # A name that is no file is one of a model that comes with its backend.
        "models": [checksum(model) if model.is_file() else str(model) for model in models],
        "backends": [backend.name for backend in backends],
        "--head": arguments.head,
        "--bec": arguments.bec,
        "--bec-method": arguments.bec_method or METHODS[0],
        "--acoustic-sum": arguments.acoustic_sum or ACOUSTIC_SUMS[0],
        "--eps-inf": arguments.eps_inf,
        "--dtype": arguments.dtype,
        "versions": [__version__, *(backend.version() for backend in backends)],
    }
