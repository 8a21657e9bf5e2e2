"""What the commands ``les ir`` and ``les born`` share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from les.backends.arguments import load_model as load
from les.spectra.frames import require_charges


def load_model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The calculator, and what results depend on besides the structures."""
    from les import __version__
    from les.files import checksum

    calculator, backend = load(arguments, bec=True)
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
