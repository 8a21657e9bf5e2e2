"""``les bench {run,report,fetch,list,kernels,response}``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from les.backends import BackendError, backend_names
from les.parser import ArgumentParser
from les_bench.suite.results import ResultError
from les_bench.systems.datasets import find
from les_bench.systems.fetch import REMOTE, FetchError, fetch
from les_bench.systems.labels import DataError
from les_bench.systems.systems import SYSTEMS

LOG = logging.getLogger("les")

DEFAULT_OUTPUT = Path("les-bench-results")
MAX_DEFAULT_THREADS = 4

#: Commands that measure speed, in modules of the same names.
MEASUREMENTS = {
    "kernels": "speed of the Ewald sum",
    "response": "cost and convergence of Born effective charges",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options to ``parser``."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="train and evaluate models with and without LES",
        epilog="What follows -- goes to the training command of the model.",
    )
    run.add_argument(
        "--system",
        action="append",
        help=f"comma-separated, or repeated: {', '.join(SYSTEMS)} (default: dipeptides,water)",
    )
    run.add_argument("--model", action="append", help="comma-separated (default: mace)")
    run.add_argument("--variant", action="append", help="sr, les or both (default: sr,les)")
    run.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N (default: 1)")
    run.add_argument("--epochs", type=int, help="default: as in the model's configuration")
    run.add_argument("--demo", action="store_true", help="few epochs: minutes on two cores")
    _add_data(run)
    run.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="default: %(default)s")
    run.add_argument(
        "--threads",
        type=int,
        default=_default_threads(),
        help="CPU threads of training and evaluation (default: OMP_NUM_THREADS if set; here "
        "%(default)s)",
    )
    run.add_argument("--device", default="cpu", help="default: %(default)s")
    run.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the evaluation (default: %(default)s)",
    )
    run.add_argument(
        "--eps-inf",
        type=float,
        metavar="EPS",
        help="high-frequency dielectric constant of the reference data, in the place of the "
        "epsilon_factor of the models: dipoles and Born effective charges have its square root",
    )

    report = commands.add_parser("report", help="tables and plots of a folder of results")
    report.add_argument("folder", type=Path, nargs="?", default=DEFAULT_OUTPUT)
    report.add_argument("--output", type=Path, help="folder to write to (default: the results')")

    download = commands.add_parser("fetch", help="download public data, checked by sha256")
    download.add_argument("system", nargs="*", default=list(REMOTE), help="default: all listed")

    _add_data(commands.add_parser("list", help="systems, their data, and models"))
    for name, what in MEASUREMENTS.items():
        commands.add_parser(name, help=f"{what} (has options of its own)")


def main(argv: list[str] | None = None) -> int:
    """Run one ``les bench`` command; returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in MEASUREMENTS:
        return int(importlib.import_module(f"les_bench.speed.{argv[0]}").main(argv[1:]))
    argv, extra = _split_extra(argv)
    parser = ArgumentParser(prog="les bench", description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    if extra and arguments.command != "run":
        parser.error(f"`{arguments.command}` takes nothing after --")
    if not LOG.hasHandlers():
        logging.basicConfig(format="%(levelname)s: %(message)s")
        LOG.setLevel(logging.INFO)
    try:
        return {"run": _run, "report": _report, "fetch": _fetch, "list": _list}[arguments.command](
            arguments, extra
        )
    except (BackendError, DataError, FetchError, ResultError, ValueError, OSError) as error:
        LOG.error("%s", error)
        return 1


def _run(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    from les_bench.suite.run import VARIANTS, run_suite

    # A terminated suite takes its training process with it, so that it can be resumed.
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        failed = run_suite(
            _names(arguments.system, ["dipeptides", "water"]),
            _names(arguments.model, ["mace"]),
            _names(arguments.variant, list(VARIANTS)),
            arguments.seeds,
            data=arguments.data,
            epochs=arguments.epochs,
            demo=arguments.demo,
            output=arguments.output,
            threads=arguments.threads,
            device=arguments.device,
            dtype=arguments.dtype,
            eps_inf=arguments.eps_inf,
            extra=extra,
        )
    finally:
        signal.signal(signal.SIGTERM, previous)
    if failed:
        print(f"{len(failed)} run(s) failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    print(f"Results are in {arguments.output}; next: les bench report {arguments.output}")
    return 0


def _report(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    from les_bench.report.page import write_report

    print(f"Report: {write_report(arguments.folder, arguments.output)}")
    return 0


def _fetch(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    for system in arguments.system:
        for path in fetch(system):
            print(path)
    return 0


def _list(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    for system in SYSTEMS.values():
        try:
            source, folder, _ = find(system, arguments.data)
            place = f"{source}: {folder}"
        except DataError as error:
            place = f"none: {error}"
        print(f"{system.name:<20}{system.title:<52}{place}")
    print(f"models: {', '.join(backend_names()) or 'none installed'}")
    return 0


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        default="auto",
        help="`embedded`, a folder, or `auto`: LES_DATA_DIR if set, then what `les bench fetch` "
        "brought, then the embedded data (default: %(default)s)",
    )


def _default_threads() -> int:
    """What the environment says, else a few."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else min(MAX_DEFAULT_THREADS, os.cpu_count() or 1)


def _split_extra(argv: list[str]) -> tuple[list[str], list[str]]:
    """What is before and after ``--``."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _names(given: list[str] | None, default: list[str]) -> list[str]:
    """Distinct names of comma-separated, repeatable options."""
    names = [name.strip() for item in given or default for name in item.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
