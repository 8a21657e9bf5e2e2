"""``les bench skin``: what a step of molecular dynamics costs with neighbours that are kept.

For each skin there is a trajectory of its own, all of them the same. They take turns, some steps
each. Searches are part of the times, which are means over the steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tqdm import tqdm

from les.backends import BackendError, backend_names, backend_of, get_backend
from les.backends.loading import load_calculator
from les.data.structure_files import DataError, read_structures
from les.neighbours import SKIN
from les.parser import ArgumentParser
from les_bench.speed.md_step import moving, repeats
from les_bench.speed.timing import CLOCKS, add_clock, check_clock, interleaved
from les_bench.systems.states import repeated

if TYPE_CHECKING:
    from ase import Atoms

SIZES = (192, 1536)
HEADER = f"{'atoms':>7}{'skin/A':>8}{'ms/step':>10}{'ratio':>8}{'steps/search':>14}"


class Cost(NamedTuple):
    """What a step costs.

    Attributes:
        n_atoms: number of atoms.
        skin: how far beyond the cutoff neighbours are searched for [A].
        seconds: time of a step [s].
        ratio: to the time without a skin.
        steps: steps from search to search.
    """

    n_atoms: int
    skin: float
    seconds: float
    ratio: float
    steps: float

    def line(self) -> str:
        """The line of the table."""
        time = f"{1000 * self.seconds:>10.2f}{self.ratio:>8.3f}"
        return f"{self.n_atoms:>7}{self.skin:>8g}{time}{self.steps:>14.1f}"


def measure(
    atoms: Atoms,
    calculators: Sequence[Any],
    sizes: Sequence[int],
    n_steps: int,
    clock: str = "wall",
) -> Iterator[Cost]:
    """What a step costs with each calculator, of which the last one has no skin.

    Args:
        atoms: the structure that is repeated.
        calculators: of one model, with different skins.
        sizes: numbers of atoms.
        n_steps: steps of a turn.
        clock: one of ``les_bench.speed.timing.CLOCKS``.
    """
    for size in sizes:
        larger = repeated(atoms, repeats(atoms, size))
        runs = [moving(larger, calculator) for calculator in calculators]
        for run in runs:
            run.run(2)  # pays for compilation, and for the first search with the skin
        before = [(run.nsteps, calc.neighbours.n_searches) for run, calc in zip(runs, calculators)]
        timed = interleaved(*(partial(run.run, n_steps) for run in runs), clock=CLOCKS[clock])
        for calc, run, (step, searches), time, ratio in zip(
            calculators, runs, before, timed.seconds, timed.ratios, strict=True
        ):
            made = calc.neighbours.n_searches - searches
            steps = (run.nsteps - step) / made if made else float("inf")
            yield Cost(size, calc.neighbours.skin, time / n_steps, ratio, steps)


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench skin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, help="model, with LES or without it")
    add("structures", type=Path, help="a file of any format that ASE reads")
    add("--atoms", type=int, nargs="+", default=list(SIZES), help="sizes; default: %(default)s")
    add("--skins", type=float, nargs="+", default=[SKIN], help="beside 0 [A]; default: %(default)s")
    add("--steps", type=int, default=50, help="steps of a turn; default: %(default)s")
    add("--backend", choices=backend_names(), help="default: that of files with this ending")
    add("--device", default="cpu", help="default: %(default)s")
    add("--dtype", choices=("float32", "float64"), default="float32", help="(%(default)s)")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--allow-pickle", action="store_true", help="read pickled models")
    add_clock(parser)
    options = parser.parse_args(argv)
    for name in ("threads", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be positive, got {getattr(options, name)}")
    check_clock(parser, options.clock, options.device)
    torch.set_num_threads(options.threads)
    try:
        atoms = next(iter(read_structures(options.structures)))[1]
        for size in options.atoms:
            repeats(atoms, size)  # before anything takes long
        backend = get_backend(options.backend or backend_of(options.model))
        settings = {"device": options.device, "dtype": options.dtype}
        settings["allow_pickle"] = options.allow_pickle
        calculators = [
            load_calculator(backend, options.model, skin=skin, **settings)
            for skin in (*options.skins, 0.0)
        ]
        tqdm.write(f"time: {options.clock}")
        tqdm.write(HEADER)
        for cost in measure(atoms, calculators, options.atoms, options.steps, options.clock):
            tqdm.write(cost.line())
    except (BackendError, DataError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0
