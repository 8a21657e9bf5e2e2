"""The commands of ``les bench`` and their options."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from les.backends import backend_names
from les_bench.systems.evaluation_only import EVALUATION_ONLY
from les_bench.systems.fetch import REMOTE
from les_bench.systems.in_field import IN_FIELD
from les_bench.systems.systems import SYSTEMS

DEFAULT_OUTPUT = Path("les-bench-results")
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
    "skin": "what neighbours save that are kept from step to step of molecular dynamics",
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
    others = ", ".join((*EVALUATION_ONLY, *IN_FIELD))
    evaluate.add_argument("system", help=f"one of those of `run`, or {others}")
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
