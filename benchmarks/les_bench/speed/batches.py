"""``les bench batches``: structures per second, together in batches and one by one through ASE.

Copies of a structure with displaced atoms, without a cell unless it has one, go through the
calculator one by one, as ASE's ``get_potential_energy`` and ``get_forces`` call it, and through
its batches. The two take turns. The largest difference of their results is told as well. On a busy
machine `--clock processor` says more than the time that passes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from les.backends import BackendError, backend_names, backend_of, get_backend
from les.backends.batches import results_together
from les.data.bare import bare
from les.data.structure_files import DataError, one_structure
from les.parser import ArgumentParser
from les_bench.speed.timing import CLOCKS, add_clock, check_clock, interleaved

if TYPE_CHECKING:
    from ase import Atoms

HEADER = f"{'batch':>7}{'one by one/s':>14}{'together/s':>12}{'ratio':>8}{'difference':>13}"
#: Displacements of the copies [A].
DISPLACEMENT = 0.02


class Rates(NamedTuple):
    """What a size of batches gives.

    Attributes:
        size: structures in a batch.
        single: structures per second, one by one.
        together: structures per second, in batches.
        ratio: median of the ratio of the two, of evaluations that followed one another.
        difference: largest difference of energies [eV] and forces [eV/A].
    """

    size: int
    single: float
    together: float
    ratio: float
    difference: float

    def line(self) -> str:
        """The line of the table."""
        rates = f"{self.single:>14.2f}{self.together:>12.2f}{self.ratio:>8.2f}"
        return f"{self.size:>7}{rates}{self.difference:>13.1e}"


def copies(atoms: Atoms, number: int) -> list[Atoms]:
    """Copies with displaced atoms, and with nothing else but the charge state."""
    made = []
    for seed in range(number):
        copy = bare(atoms)
        copy.rattle(DISPLACEMENT, seed=seed)
        made.append(copy)
    return made


def measure(
    calculator: Any, structures: Sequence[Atoms], sizes: Sequence[int], clock: str = "wall"
) -> Iterator[Rates]:
    """Rates for sizes of batches, by one of ``les_bench.speed.timing.CLOCKS``."""

    def single() -> list[dict[str, Any]]:
        found = []
        for atoms in structures:
            calculator.reset()  # otherwise an equal structure would be answered from memory
            atoms.calc = calculator
            found.append({"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()})
            atoms.calc = None
        return found

    for size in sizes:

        def together(size: int = size) -> list[dict[str, Any]]:
            groups = [structures[i : i + size] for i in range(0, len(structures), size)]
            return [x for group in groups for x in results_together(calculator, group)]

        pairs = list(zip(single(), together(), strict=True))  # pays for compilation, too
        difference = max(
            float(np.abs(np.subtract(one[name], other[name])).max())
            for one, other in pairs
            for name in ("energy", "forces")
        )
        timed = interleaved(single, together, clock=CLOCKS[clock])  # ratios are to the last one
        rates = [len(structures) / seconds for seconds in timed.seconds]
        yield Rates(size, rates[0], rates[1], timed.ratios[0], difference)


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench batches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("structure", type=Path, help="a file with one structure")
    parser.add_argument("--number", type=int, default=32, help="copies; default: %(default)s")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[32], help="of batches; default: %(default)s"
    )
    parser.add_argument("--bec", action="store_true", help="with Born effective charges")
    parser.add_argument("--backend", choices=backend_names(), help="default: by the file's ending")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s"
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    add_clock(parser)
    options = parser.parse_args(argv)
    for name, values in (("number", [options.number]), ("sizes", options.sizes)):
        if min(values) < 1:
            parser.error(f"--{name} must be positive, got {min(values)}")
    if options.threads < 1:
        parser.error(f"--threads must be positive, got {options.threads}")
    check_clock(parser, options.clock, options.device)
    torch.set_num_threads(options.threads)
    try:
        structures = copies(one_structure(options.structure), options.number)
        calculator = get_backend(options.backend or backend_of(options.model)).calculator(
            options.model,
            device=options.device,
            dtype=options.dtype,
            bec=options.bec,
            allow_pickle=options.allow_pickle,
        )
        tqdm.write(
            f"{len(structures)} structures of {len(structures[0])} atoms; time: {options.clock}"
        )
        tqdm.write(HEADER)
        for rates in measure(calculator, structures, options.sizes, options.clock):
            tqdm.write(rates.line())
    except (BackendError, DataError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0
