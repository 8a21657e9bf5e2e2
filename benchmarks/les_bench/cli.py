"""``les bench`` and its commands."""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import overload

from les.backends import BackendError, backend_names
from les.parser import ArgumentParser
from les_bench.options import MEASUREMENTS, add_arguments
from les_bench.suite.cell import DONE, Settings
from les_bench.suite.results import ResultError
from les_bench.suite.run import VARIANTS
from les_bench.suite.suites import Suite, get_suite, suite_names, suite_of
from les_bench.systems.datasets import find
from les_bench.systems.evaluation_only import EVALUATION_ONLY
from les_bench.systems.fetch import FetchError, fetch
from les_bench.systems.in_field import IN_FIELD, read_in_field
from les_bench.systems.labels import DataError
from les_bench.systems.systems import SYSTEMS

LOG = logging.getLogger("les")

#: What `les bench run` takes unless it is told.
DEFAULT_SYSTEMS = ("dipeptides", "water")
DEFAULT_MODELS = ("mace",)


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
    from les_bench.suite.field_response import field_lines
    from les_bench.suite.trained import labelled_test_set, lines

    name, data = arguments.system, arguments.data or "auto"
    options = {
        "backend": arguments.backend,
        "allow_pickle": arguments.allow_pickle,
        "device": arguments.device,
        "dtype": arguments.dtype,
    }
    if name in IN_FIELD:
        table = field_lines(name, read_in_field(name, data), arguments.model, **options)
    else:
        table = lines(labelled_test_set(name, data), arguments.model, **options)
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
    others = {name: each.title for name, each in EVALUATION_ONLY.items()}
    others |= {name: each.title for name, each in IN_FIELD.items()}
    for name, title in others.items():
        print(f"{name:<20}{title:<52}only for `les bench evaluate`")
    print(f"models: {', '.join(backend_names()) or 'none installed'}")
    for name in suite_names():
        suite = get_suite(name)
        print(f"suite {name:<14}{len(suite.cells()):>4} trainings: {suite.title}")
    return 0


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
