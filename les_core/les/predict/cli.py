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

_DESCRIPTION = """\
Evaluate trained models on a file of structures.

Several models are a committee: their means are written, and as LES_..._std the standard
deviations over the models. Errors are printed where the structures have labels. Results are kept
in OUTPUT.journal until all are there: after an interruption, the same command with --resume
goes on.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status, 1 if a structure was left out."""
    arguments = _parser().parse_intermixed_args(argv)
    *models, structures = arguments.files
    if not models:
        raise ValueError("les predict needs a model file, and then a file of structures")
    from les.predict.evaluate import check, predict

    output = arguments.output
    check(output, arguments.files, force=arguments.force, resume=arguments.resume)
    options = {
        "dtype": arguments.dtype,
        "bec": arguments.bec,
        "allow_pickle": arguments.allow_pickle,
        "device": _device(arguments.device),
        "head": arguments.head,
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
    add("--allow-pickle", action="store_true", help="read pickled models")
    add("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    add("--dtype", default="float64", choices=("float32", "float64"))
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
        "--dtype": arguments.dtype,
        "versions": [__version__, *(backend.version() for backend in backends)],
    }
