"""The command ``les``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from les.backends import BackendError, backend_names, config_path, get_backend
from les.config_files import purpose
from les.files import replacing
from les.parser import ArgumentParser
from les.tables import aligned
from les.targets import check_target

_LES_FLAGS = ("--les", "--no-les")

_LAST = """\
Commands of `les bench` are run, evaluate, report, headline, fetch and list for models, and for
speed md-step, skin, kernels, response, cost, equilibration, lammps and batches.

`les help COMMAND` tells more of one. `les --debug COMMAND ...` shows where in the code an error
came from. Completion in a shell: install with the extra `completion`, then
eval "$(register-python-argcomplete les)".
"""


class Command(NamedTuple):
    """A command of ``les``, which parses its own arguments."""

    #: Runs it on its arguments, without its name, and returns the exit status.
    run: Callable[[list[str]], int]
    #: What stands behind its name.
    synopsis: str
    #: What it does, in a few words.
    summary: str


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (default: ``sys.argv[1:]``); returns the exit status."""
    if "_ARGCOMPLETE" in os.environ:  # by a shell, for what is typed so far
        from les.cli.completion import complete

        complete(_parser(), {name: command.run for name, command in COMMANDS.items()})
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = argv[:1] == ["--debug"]
    argv = argv[debug:]
    parser = _parser()
    if not argv:
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv[:1])
    try:
        status = COMMANDS[arguments.command].run(argv[1:])
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BackendError, ValueError, OSError, MemoryError) as error:
        if debug:
            raise
        print(f"les: error: {error or 'there is not enough memory'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("les: interrupted", file=sys.stderr)
        return 130


def _parser() -> ArgumentParser:
    lines = [
        "Latent Ewald Summation: long-range electrostatics for machine-learned potentials.",
        "",
    ]
    for name, command in COMMANDS.items():
        usage = f"  les {name} {command.synopsis}"
        # A usage that is too long for its column has a line of its own.
        lines += (
            [usage, f"{'':41}{command.summary}"]
            if len(usage) > 40
            else [f"{usage:<41}{command.summary}"]
        )
    parser = ArgumentParser(
        prog="les",
        usage="les COMMAND ...",
        description="\n".join([*lines, "", _LAST]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version(), help="print the version")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those above")
    return parser


def _version() -> str:
    from les import __version__

    return __version__


def _train(argv: list[str]) -> int:
    names = backend_names()
    if not argv or argv[0] in ("-h", "--help"):
        print(
            f"usage: les train {{{','.join(names)}}} [--les | --no-les] ...\n\n"
            "All other arguments are upstream's own: les train MODEL --help lists them.\n"
            "--les (default) adds long-range electrostatics, --no-les is upstream's own training."
        )
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    flags = [text for text in rest if text in _LES_FLAGS]
    if len(set(flags)) > 1:
        raise ValueError("--les and --no-les exclude each other")
    upstream = [text for text in rest if text not in _LES_FLAGS]
    for text in upstream:
        # Upstream would take some of them for an abbreviation, or for the value of another option.
        meant = text.lower().partition("=")[0].replace("_", "-").replace("nol", "no-l")
        if text.startswith("-") and f"--{meant.lstrip('-')}" in _LES_FLAGS:
            raise ValueError(f"{text} is no option; did you mean --{meant.lstrip('-')}?")
    get_backend(name).train(upstream, les="--no-les" not in flags)
    return 0


def _predict(argv: list[str]) -> int:
    from les.predict.cli import main as predict

    return predict(argv)


def _analyse(argv: list[str]) -> int:
    from les.analysis.cli import main as analyse

    return analyse(argv)


def _md(argv: list[str]) -> int:
    from les.dynamics.cli import main as md

    return md(argv)


def _lammps(argv: list[str]) -> int:
    from les.engines.lammps.cli import main as run_lammps

    return run_lammps(argv)


def _ir(argv: list[str]) -> int:
    from les.spectra.cli import ir

    return ir(argv)


def _born(argv: list[str]) -> int:
    from les.spectra.cli import born

    return born(argv)


def _distill(argv: list[str]) -> int:
    from les.distillation.cli import main as distill

    return distill(argv)


def _convert(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog="les convert",
        description="Write a published model with LES as a file that loads without running code.",
    )
    parser.add_argument("backend", choices=backend_names(), help="whose model it is")
    parser.add_argument("source", type=Path, help="published model")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--force", action="store_true", help="replace the target if it is there")
    parser.add_argument("--allow-pickle", action="store_true", help="trust the source: read it")
    arguments = parser.parse_args(argv)
    check_target(arguments.target, [arguments.source], force=arguments.force)
    get_backend(arguments.backend).convert(
        arguments.source, arguments.target, allow_pickle=arguments.allow_pickle
    )
    print(arguments.target)
    return 0


def _bench(argv: list[str]) -> int:
    try:
        from les_bench.cli import main as bench
    except ModuleNotFoundError as error:
        raise BackendError(
            f'the benchmarks need {error.name}; install it with: pip install "les[bench]"'
        ) from error
    return bench(argv)


def _config(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog="les config", description="Training configurations, named MODEL/SYSTEM."
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="all names, and what each is for (also without a word)")
    show = commands.add_parser("show", help="print one")
    name = "MODEL/SYSTEM of `les config list`, or SYSTEM where one model alone is installed"
    show.add_argument("name", help=name)
    copy = commands.add_parser("copy", help="write one to a file of your own")
    copy.add_argument("name", help=name)
    copy.add_argument("target", type=Path, nargs="?", help="default: SYSTEM.yaml here")
    copy.add_argument("--force", action="store_true", help="replace the target if it is there")
    arguments = parser.parse_args(argv)
    if arguments.command in (None, "list"):
        rows = [["configuration", "can be used here", "for"]]
        for name in backend_names():
            state = "no, see les doctor" if get_backend(name).problem() else "yes"
            for system, path in get_backend(name).configs().items():
                rows.append([f"{name}/{system}", state, purpose(path)])
        print(aligned(rows))
        return 0
    path = config_path(arguments.name)
    if arguments.command == "show":
        print(path.read_text(), end="")
        return 0
    target = arguments.target or Path(path.name)
    if target.is_dir():
        target = target / path.name
    check_target(target, [path], force=arguments.force)
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)
    print(target)
    return 0


def _models(argv: list[str]) -> int:
    from les.backends.cli import main as models

    return models(argv)


def _doctor(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog="les doctor",
        description="Which models can be trained here, and what is missing; or how a model does "
        "its long-range part.",
    )
    parser.add_argument("model", nargs="?", type=Path, help="model file")
    parser.add_argument(
        "--backend", choices=backend_names(), help="default: that of files with this ending"
    )
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    parser.add_argument("--head", help="of a model with several heads")
    parser.add_argument("--features", action="store_true", help="what works with which backend")
    arguments = parser.parse_args(argv)
    from les.cli.doctor import examine, examine_file

    if arguments.features:
        from les.backends.features import table

        print(table({name: get_backend(name).features for name in backend_names()}), end="")
    elif arguments.model is None:
        print("\n".join(examine()))
    else:
        print(
            examine_file(arguments.model, arguments.backend, arguments.allow_pickle, arguments.head)
        )
    return 0


def _help(argv: list[str]) -> int:
    parser = ArgumentParser(prog="les help", description="What a command does, and its options.")
    parser.add_argument(
        "command", nargs="?", choices=COMMANDS, metavar="COMMAND", help="one of les"
    )
    parser.add_argument(
        "further", nargs="*", metavar="NAME", help="within it: les help train mace, les help ir run"
    )
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        return main([])
    return COMMANDS[arguments.command].run([*arguments.further, "--help"])


#: All commands, in the order in which one meets them.
COMMANDS = {
    "train": Command(_train, "MODEL [--les | --no-les] ...", "train with upstream's own arguments"),
    "predict": Command(
        _predict, "MODEL [MODEL ...] STRUCTURES", "energies, forces, charges of structures"
    ),
    "analyse": Command(
        _analyse, "MODEL STRUCTURES", "charges: by environment, sums, against references"
    ),
    "md": Command(_md, "MODEL START", "molecular dynamics: nve, nvt, npt"),
    "lammps": Command(
        _lammps, "SCRIPT --model MODEL", "LAMMPS with a model, on any number of MPI ranks"
    ),
    "ir": Command(_ir, "{trajectory,run,harmonic} ...", "infrared and Raman spectra"),
    "born": Command(_born, "MODEL CRYSTAL", "Born effective charges for phonopy"),
    "distill": Command(
        _distill,
        "{run,stage,label,curve,card,teachers} ...",
        "light students of foundation models and other teachers",
    ),
    "convert": Command(
        _convert, "MODEL FILE TARGET", "published models with LES as files of this package"
    ),
    "bench": Command(_bench, "COMMAND ...", "models with and without LES, and speed"),
    "config": Command(
        _config, "[list | show | copy]", "the training configurations shipped with les"
    ),
    "models": Command(_models, "[list | show]", "models that come with les, and their cards"),
    "doctor": Command(_doctor, "[MODEL]", "which models can be trained here, what is in a model"),
    "help": Command(_help, "[COMMAND]", "what a command does, and its options"),
}
