"""Evaluate a calculator on a file of structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from les.files import replacing
from les.structures import ANY_AXES, check_atoms

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Results that become per-structure entries of the output file, and per-atom columns.
INFO_KEYS = ("energy", "les_energy", "stress", "dipole")
ARRAY_KEYS = (
    "forces",
    "energies",
    "magmoms",
    "charges",
    "latent_charges",
    "born_effective_charges",
)


def _frames(structures: Path) -> Iterator[Any]:
    """The structures of a file, one by one; whatever ASE trips over becomes a ``ValueError``."""
    from ase.io import iread

    n_read = 0
    try:
        for atoms in iread(structures):
            yield atoms
            n_read += 1
    except FileNotFoundError:
        raise
    except Exception as error:  # each format raises errors of its own
        raise ValueError(
            f"{structures} cannot be read after {n_read} structures: "
            f"{type(error).__name__}: {error}"
        ) from error


def predict(calculator: Any, structures: Path, output: Path, prefix: str = "LES_") -> int:
    """Write ``structures`` with the calculator's results to the extxyz file ``output``.

    Results get a ``prefix``, so that labels which the input carries stay what they are. The
    file appears whole or not at all.

    Returns:
        The number of structures.

    Raises:
        ValueError: if the input cannot be read or has no structures, or one that cannot be
            evaluated; the message names file and frame.
    """
    from ase.io import write  # only this needs it
    from tqdm import tqdm

    if not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {output.absolute().parent} to write {output.name} to")
    evaluated = []
    for frame, atoms in enumerate(tqdm(_frames(structures), unit="structure")):
        try:
            check_atoms(atoms, ANY_AXES)  # what the model supports, its calculator knows
            calculator.calculate(atoms)
        except (ValueError, RuntimeError) as error:  # the latter from compiled models
            raise ValueError(f"{structures}, frame {frame}: {error}") from error
        for key in INFO_KEYS:
            if key in calculator.results:
                atoms.info[prefix + key] = calculator.results[key]
        for key in ARRAY_KEYS:
            if key in calculator.results:
                atoms.arrays[prefix + key] = calculator.results[key]
        evaluated.append(atoms)
    if not evaluated:
        raise ValueError(f"{structures} holds no structures")
    with replacing(output) as temporary:
        write(temporary, evaluated, format="extxyz")
    return len(evaluated)
