"""``les bench`` and its commands."""

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
from typing import overload

from les.backends import BackendError, backend_names
from les.parser import ArgumentParser
from les_bench.suite.cell import DONE, Settings
from les_bench.suite.results import ResultError
from les_bench.suite.run import VARIANTS
from les_bench.suite.suites import Suite, get_suite, suite_names, suite_of
from les_bench.systems.datasets import find
from les_bench.systems.evaluation_only import EVALUATION_ONLY
from les_bench.systems.fetch import REMOTE, FetchError, fetch
from les_bench.systems.labels import DataError
from les_bench.systems.systems import SYSTEMS

LOG = logging.getLogger("les")

DEFAULT_OUTPUT = Path("les-bench-results")
DEFAULT_SYSTEMS = ("dipeptides", "water")
DEFAULT_MODELS = ("mace",)
MAX_DEFAULT_THREADS = 4

#: Commands that measure speed, in modules of the same names but for dashes.
MEASUREMENTS = {
    "md-step": "time and memory of a step of molecular dynamics, without and with LES",
    "kernels": "speed of the Ewald sum",
    "response": "cost and convergence of Born effective charges",
    "cost": "time that LES adds to a model, in training and with its calculator",
    "equilibration": "cost and convergence of charge equilibration",
    "lammps": "cost of a step of LAMMPS on several ranks, and what limits it",
    "batches": "structures per second, together and one by one",
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
        "--suite",
        metavar="NAME",
        help="a table of systems, models and seeds, such as quick or standard (`les bench list`), "
        "or a YAML file of your own; the options below choose from it",
    )
    run.add_argument(
        "--system",
        action="append",
        help=f"comma-separated, or repeated: {', '.join(SYSTEMS)} (default: dipeptides,water)",
    )
    run.add_argument("--model", action="append", help="comma-separated (default: mace)")
    run.add_argument("--variant", action="append", help="sr, les or both (default: sr,les)")
    run.add_argument("--seeds", type=int, metavar="N", help="seeds 1 to N (default: 1)")
    run.add_argument("--epochs", type=int, help="default: as in the model's configuration")
    run.add_argument(
        "--fraction",
        type=float,
        action="append",
        help="share of the training set, up to 1; may be repeated (default: 1)",
    )
    run.add_argument(
        "--environments",
        type=Path,
        metavar="FOLDER",
        help="folder with an environment for each model: FOLDER/mace, ..., allegro's may be "
        "FOLDER/nequip (default with --suite: .nox, and for models that are not there this "
        "environment)",
    )
    run.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="MODEL=PATH",
        help="interpreter or environment of one model; may be repeated",
    )
    run.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at the same time (default: 1)"
    )
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

    evaluate = commands.add_parser(
        "evaluate", help="errors of trained models on the test structures of a system"
    )
    evaluate.add_argument("system", help=f"one of those of `run`, or {', '.join(EVALUATION_ONLY)}")
    evaluate.add_argument("model", type=Path, nargs="+", help="several are a committee, too")
    evaluate.add_argument("--backend", choices=backend_names(), help="default: by the name's end")
    evaluate.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    evaluate.add_argument("--device", default="cpu", help="default: %(default)s")
    evaluate.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the model (default: %(default)s)",
    )
    _add_data(evaluate)

    report = commands.add_parser("report", help="tables and plots of a folder of results")
    report.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=DEFAULT_OUTPUT,
        help="results of les bench run (default: %(default)s)",
    )
    report.add_argument("--output", type=Path, help="folder to write to (default: the results')")

    headline = commands.add_parser(
        "headline", help="one small table of all pairs, from result.json files alone"
    )
    headline.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=DEFAULT_OUTPUT,
        help="results of les bench run (default: %(default)s)",
    )
    headline.add_argument(
        "--write",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Markdown files to put it into, between their two marks, rather than print it",
    )
    headline.add_argument(
        "--controls",
        action="store_true",
        help="the table of models with LES and their controls instead",
    )

    download = commands.add_parser("fetch", help="download public data, checked by sha256")
    download.add_argument("system", nargs="*", default=list(REMOTE), help="default: all listed")

    _add_data(commands.add_parser("list", help="systems, their data, and models"))
    for name, what in MEASUREMENTS.items():
        commands.add_parser(name, help=f"{what} (has options of its own)")


def main(argv: list[str] | None = None) -> int:
    """Run one ``les bench`` command; returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["cell"]:  # a process that a suite has started
        return int(importlib.import_module("les_bench.suite.cell").main(argv[1:]))
    if argv and argv[0] in MEASUREMENTS:
        module = f"les_bench.speed.{argv[0].replace('-', '_')}"
        return int(importlib.import_module(module).main(argv[1:]))
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
        command = {
            "run": _run,
            "evaluate": _evaluate,
            "report": _report,
            "headline": _headline,
            "fetch": _fetch,
            "list": _list,
        }[arguments.command]
        return command(arguments, extra)
    except (BackendError, DataError, FetchError, ResultError, ValueError, OSError) as error:
        LOG.error("%s", error)
        return 1


def _run(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    """In this environment, or with one of the options that ask for it across environments."""
    across = arguments.suite or arguments.environments or arguments.python or arguments.jobs > 1
    suite = _suite(arguments)
    settings = Settings(
        data=arguments.data or suite.data,
        threads=arguments.threads,
        device=arguments.device,
        dtype=arguments.dtype,
        eps_inf=arguments.eps_inf,
        extra=tuple(extra),
        jobs=arguments.jobs,
    )
    # A terminated suite takes its training processes with it, so that it can be resumed.
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        done = (_run_across if across else _run_here)(arguments, suite, settings)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if across or done:
        print(f"Results are in {arguments.output}; next: les bench report {arguments.output}")
    return 0 if done else 1


def _suite(arguments: argparse.Namespace) -> Suite:
    """The suite that was named, or one of the systems and models that were."""
    if arguments.suite:
        if arguments.demo:
            raise ValueError("--demo has no effect on a suite, which has its own numbers of epochs")
        suite = get_suite(arguments.suite)
    else:
        suite = suite_of(
            _names(arguments.system, DEFAULT_SYSTEMS),
            _names(arguments.model, DEFAULT_MODELS),
            _names(arguments.variant, VARIANTS),
            demo=arguments.demo,
        )
    return suite.only(
        _names(arguments.system),
        _names(arguments.model),
        _names(arguments.variant),
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        fractions=arguments.fraction,
    )


def _run_here(arguments: argparse.Namespace, suite: Suite, settings: Settings) -> bool:
    from les_bench.suite.here import run_here

    failed = run_here(suite.cells(), settings, arguments.output)
    if failed:
        print(f"{len(failed)} run(s) failed: {', '.join(failed)}", file=sys.stderr)
    return not failed


def _run_across(arguments: argparse.Namespace, suite: Suite, settings: Settings) -> bool:
    from les_bench.suite.environments import parse_interpreters
    from les_bench.suite.matrix import Matrix, summary

    explicit = parse_interpreters(arguments.python)
    matrix = Matrix(arguments.output, suite.cells(), settings, arguments.environments, explicit)
    record = matrix.run(suite.name)
    print(summary(record))
    return all(entry["status"] == DONE for entry in record.values())


def _evaluate(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    from les_bench.suite.trained import labelled_test_set, lines

    table = lines(
        labelled_test_set(arguments.system, arguments.data or "auto"),
        arguments.model,
        backend=arguments.backend,
        allow_pickle=arguments.allow_pickle,
        device=arguments.device,
        dtype=arguments.dtype,
    )
    for line in table:
        print(line, flush=True)
    return 0


def _report(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    from les_bench.report.page import write_report

    print(f"Report: {write_report(arguments.folder, arguments.output)}")
    return 0


def _headline(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    from les_bench.report import controls
    from les_bench.report.headline import BEGIN, END, headline, put_into

    marks = (controls.BEGIN, controls.END) if arguments.controls else (BEGIN, END)
    make = controls.control_headline if arguments.controls else headline
    text = make(arguments.folder)
    for path in arguments.write:
        put_into(path, text, marks)
    if not arguments.write:
        print(text)
    return 0


def _fetch(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    for system in arguments.system:
        for path in fetch(system):
            print(path)
    return 0


def _list(arguments: argparse.Namespace, extra: Sequence[str]) -> int:
    for system in SYSTEMS.values():
        try:
            source, folder, _ = find(system, arguments.data or "auto")
            place = f"{source}: {folder}"
        except DataError as error:
            place = f"none: {error}"
        print(f"{system.name:<20}{system.title:<52}{place}")
    for name, test_only in EVALUATION_ONLY.items():
        print(f"{name:<20}{test_only.title:<52}only for `les bench evaluate`")
    print(f"models: {', '.join(backend_names()) or 'none installed'}")
    for name in suite_names():
        suite = get_suite(name)
        print(f"suite {name:<14}{len(suite.cells()):>4} trainings: {suite.title}")
    return 0


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        help="`embedded`, a folder, or `auto`: LES_DATA_DIR if set, then what `les bench fetch` "
        "brought, then the embedded data (default: auto, or as the suite says)",
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


@overload
def _names(given: list[str] | None, default: Sequence[str]) -> list[str]: ...
@overload
def _names(given: list[str] | None) -> list[str] | None: ...
def _names(given: list[str] | None, default: Sequence[str] | None = None) -> list[str] | None:
    """Distinct names of comma-separated, repeatable options."""
    if given is None and default is None:
        return None
    names = [name.strip() for item in given or default or () for name in item.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
