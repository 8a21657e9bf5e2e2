"""What the commands ``les ir`` and ``les born`` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.backends import backend_names, backend_of, get_backend
from les.backends.loading import load_calculator
from les.ranges import check_number
from les.spectra.frames import require_charges
from les.targets import check_target


def add_model_options(parser: Any) -> None:
    """Add the options that say how a model is read and evaluated."""
    parser.add_argument(
        "--eps-inf",
        type=float,
        metavar="EPS",
        help="high-frequency dielectric constant (default: epsilon_factor of the model)",
    )
    parser.add_argument(
        "--backend", choices=backend_names(), help="default: that of files with this ending"
    )
    parser.add_argument("--head", help="of a model with several heads")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))


def load_model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The calculator, and what results depend on besides the structures."""
    from les import __version__
    from les.devices import resolve_device
    from les.files import checksum

    if arguments.eps_inf is not None:
        check_number("--eps-inf", arguments.eps_inf, "epsilon_factor")
    backend = get_backend(arguments.backend or backend_of(arguments.model))
    options = {
        "bec": True,
        "dtype": arguments.dtype,
        "device": str(resolve_device(arguments.device)),
        "allow_pickle": arguments.allow_pickle,
        "head": arguments.head,
        "eps_inf": arguments.eps_inf,
    }
    calculator = load_calculator(backend, arguments.model, **options)
    require_charges(calculator)
    identity = {
        "model": checksum(arguments.model) if arguments.model.is_file() else str(arguments.model),
        "backend": backend.name,
        "--head": arguments.head,
        "--eps-inf": arguments.eps_inf,
        "--dtype": arguments.dtype,
        "versions": [__version__, backend.version()],
    }
    return calculator, identity


def claim(folder: Path, names: Sequence[str], given: Path, force: bool) -> None:
    """Make the folder of results, and refuse to replace what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_target(folder / name, [given], force=force)


def one_structure(path: Path) -> Any:
    """The structure of a file that has one.

    Raises:
        DataError: if it cannot be read.
        ValueError: if there are several.
    """
    from les.data.atoms import check_atoms
    from les.data.structure_files import read_structures

    found = list(read_structures(path))
    if len(found) != 1:
        raise ValueError(f"{path}: one structure is wanted, got {len(found)}")
    where, atoms = found[0]
    try:
        check_atoms(atoms)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return atoms
