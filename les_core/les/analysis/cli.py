"""The command ``les analyse``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from les.backends import model_path
from les.backends.arguments import add_model_options, load_model
from les.files import remove_unfinished
from les.locks import locked
from les.optional_packages import optional
from les.parser import ArgumentParser
from les.targets import claim

_DESCRIPTION = """\
Look at the charges of a model: by element and environment, their sums, dipoles and
quadrupoles of molecules, and how they agree with references in the file.

The environment of an atom is its element and its bonded neighbours, as O(H2) in water. Neither the
sign of the charges nor their scale is fitted to a reference.
"""

#: Files that the command writes.
NAMES = ("environments.csv", "structures.csv", "agreement.csv", "charges.png")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(
        prog="les analyse",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("structures", type=Path, help="of any format that ASE reads")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("analysis"), help="folder of the results"
    )
    parser.add_argument("--force", action="store_true", help="replace results that are there")
    parser.add_argument(
        "--reference-charges",
        metavar="NAME",
        help="key of the charges in the file to compare with (default: REF_charges, charges, "
        "mbis_charges or hirshfeld_charges, the first that is there)",
    )
    add_model_options(parser)
    arguments = parser.parse_args(argv)
    from les.analysis import pictures, tables
    from les.analysis.charges import analyse_charges

    folder, structures = arguments.output, arguments.structures
    optional("matplotlib.figure")  # before hours of work
    claim(folder, NAMES, [model_path(arguments.model), structures], force=arguments.force)
    calculator, _ = load_model(arguments)
    with locked(folder):
        for name in NAMES:
            remove_unfinished(folder / name)
        with tables.structure_writer(folder / "structures.csv") as write:
            analysis = analyse_charges(calculator, structures, arguments.reference_charges, write)
        tables.write_groups(analysis, folder / "environments.csv")
        tables.write_agreement(analysis, folder / "agreement.csv")
        pictures.draw(analysis, folder / "charges.png")
    print(tables.text(analysis))
    print(f"{folder}: {', '.join(NAMES)}")
    return 0
