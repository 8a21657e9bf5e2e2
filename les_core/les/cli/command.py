"""The command ``les``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from les.backends import BackendError, backend_names, config_path, get_backend
from les.files import replacing
from les.parser import ArgumentParser
from les.targets import check_target

_LES_FLAGS = ("--les", "--no-les")

_DESCRIPTION = """\
Latent Ewald Summation: long-range electrostatics for machine-learned potentials.

  les train MODEL [--les | --no-les] ...   train with upstream's own arguments
  les predict MODEL [MODEL ...] STRUCTURES energies, forces, charges of structures
  les analyse MODEL STRUCTURES             charges: by environment, sums, against references
  les md MODEL START                       molecular dynamics: nve, nvt, npt
  les lammps SCRIPT --model MODEL          LAMMPS with a model, on any number of MPI ranks
  les ir {trajectory,run,harmonic}         infrared spectra
  les born MODEL CRYSTAL                   Born effective charges for phonopy
  les convert MODEL FILE TARGET            published models with LES as files of this package
  les bench {run,report,headline,evaluate,fetch,list,kernels,response,
             equilibration,cost,md-step}  models with and without LES, and speed
  les config {list,show,copy}              the training configurations shipped with les
  les doctor                               which models can be trained here

`les --debug COMMAND ...` shows where in the code an error came from.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (default: ``sys.argv[1:]``); returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = argv[:1] == ["--debug"]
    argv = argv[debug:]
    parser = ArgumentParser(
        prog="les", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=_version())
    # Each of these parses the rest by itself.
    commands = {
        "train": _train,
        "predict": _predict,
        "analyse": _analyse,
        "md": _md,
        "lammps": _lammps,
        "ir": _ir,
        "born": _born,
        "convert": _convert,
        "bench": _bench,
        "config": _config,
        "doctor": _doctor,
    }
    parser.add_argument("command", choices=commands, metavar="{" + ",".join(commands) + "}")
    arguments = parser.parse_args(argv[:1])
    try:
        status = commands[arguments.command](argv[1:])
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


def _convert(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog="les convert",
        description="Write a published model with LES as a file that loads without running code.",
    )
    parser.add_argument("backend", choices=backend_names())
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
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all names")
    show = commands.add_parser("show", help="print one")
    show.add_argument("name")
    copy = commands.add_parser("copy", help="write one to a file of your own")
    copy.add_argument("name")
    copy.add_argument("target", type=Path, nargs="?", help="default: SYSTEM.yaml here")
    copy.add_argument("--force", action="store_true", help="replace the target if it is there")
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        for backend in backend_names():
            for system in get_backend(backend).configs():
                print(f"{backend}/{system}")
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
