"""``les bench md-step``: time and memory of a step of molecular dynamics, without and with LES.

A structure is repeated to the sizes that are asked for. The two models take turns, one step each,
so that a change of the machine's load meets both. On a busy machine `--clock processor` says more
than the time that passes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tqdm import tqdm

from les.backends import BackendError, backend_names, backend_of, get_backend
from les.data.bare import bare
from les.data.structure_files import DataError, read_structures
from les.parser import ArgumentParser
from les_bench.speed.timing import CLOCKS, add_clock, check_clock, interleaved
from les_bench.systems.states import repeated

if TYPE_CHECKING:
    from ase import Atoms
    from ase.md.verlet import VelocityVerlet

SIZES = (192, 768, 3072, 12288)
#: Time step [fs] and temperature of the first velocities [K].
TIME_STEP, TEMPERATURE = 0.5, 300.0
HEADER = (
    f"{'atoms':>7}{'short-range/ms':>16}{'LES/ms':>10}{'ratio':>8}"
    f"{'short-range/MiB':>18}{'LES/MiB':>10}"
)


class Step(NamedTuple):
    """What one size costs: short-range first, then LES.

    Attributes:
        n_atoms: number of atoms.
        seconds: median times of a step [s].
        ratio: median of the ratios of steps that followed one another.
        mebibytes: most memory while stepping [MiB]; ``None`` where the system does not tell it.
    """

    n_atoms: int
    seconds: tuple[float, float]
    ratio: float
    mebibytes: tuple[float | None, float | None]

    def line(self) -> str:
        """The line of the table."""
        memory = (f"{x:.0f}" if x is not None else "-" for x in self.mebibytes)
        short, les = memory
        times = "".join(
            f"{1000 * x:>{width}.1f}" for x, width in zip(self.seconds, (16, 10), strict=True)
        )
        return f"{self.n_atoms:>7}{times}{self.ratio:>8.2f}{short:>18}{les:>10}"


class Memory:
    """The most memory that is in use from a moment on [MiB].

    On a GPU it is that of torch's tensors; on a CPU that of the whole process, both models and all
    libraries included, on systems that can begin to count anew (Linux).
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")

    def begin(self) -> bool:
        """Count from now on; whether that is possible."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return True
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def most(self) -> float | None:
        """The most since then."""
        from les_bench.suite.workspace import peak_memory

        if self.on_gpu:
            return float(torch.cuda.max_memory_allocated()) / 2**20
        return peak_memory(os.getpid())


def repeats(atoms: Atoms, n_atoms: int) -> list[int]:
    """How often each cell vector is repeated to have ``n_atoms``; the shortest one grows first.

    Raises:
        ValueError: for a number that is no multiple of the structure's, or a structure that is not
            periodic along an axis that would be repeated.
    """
    left, remainder = divmod(n_atoms, len(atoms))
    if remainder or left < 1:
        raise ValueError(
            f"--atoms must be multiples of the structure's {len(atoms)}, got {n_atoms}"
        )
    found = [1, 1, 1]
    if left > 1 and not atoms.pbc.any():
        raise ValueError(
            f"the structure is not periodic: --atoms must be {len(atoms)}, got {n_atoms}"
        )
    factor = 2
    while left > 1:
        while left % factor:
            factor += 1
        lengths = [
            length * n if periodic else float("inf")
            for length, n, periodic in zip(atoms.cell.lengths(), found, atoms.pbc, strict=True)
        ]
        found[lengths.index(min(lengths))] *= factor
        left //= factor
    return found


def moving(atoms: Atoms, calculator: Any) -> VelocityVerlet:
    """A copy of ``atoms`` that begins to move, always with the same velocities."""
    import numpy as np
    from ase import units
    from ase.md.verlet import VelocityVerlet

    copy = atoms.copy()
    copy.calc = calculator
    momenta = np.random.default_rng(0).normal(size=(len(copy), 3))
    copy.set_momenta(momenta * np.sqrt(copy.get_masses()[:, None] * units.kB * TEMPERATURE))
    return VelocityVerlet(copy, TIME_STEP * units.fs)


def measure(
    atoms: Atoms,
    calculators: Sequence[Any],
    sizes: Sequence[int],
    device: str,
    clock: str = "wall",
) -> Iterator[Step]:
    """What each size costs with a short-range model and one with LES.

    Times are those of one of ``les_bench.speed.timing.CLOCKS``.
    """
    memory = Memory(device)
    for size in sizes:
        larger = repeated(atoms, repeats(atoms, size))
        steps, most = [], []
        for calculator in calculators:
            run = moving(larger, calculator)
            run.run(1)  # pays for compilation
            counted = memory.begin()
            run.run(1)
            most.append(memory.most() if counted else None)
            steps.append(partial(run.run, 1))
        timed = interleaved(*reversed(steps), clock=CLOCKS[clock])  # ratios are to the last one
        times = timed.seconds[1], timed.seconds[0]
        yield Step(size, times, timed.ratios[0], (most[0], most[1]))


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench md-step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("short_range", type=Path, help="model without LES")
    parser.add_argument("les", type=Path, help="the same with LES")
    parser.add_argument("structures", type=Path, help="a file of any format that ASE reads")
    parser.add_argument(
        "--atoms", type=int, nargs="+", default=list(SIZES), help="sizes; default: %(default)s"
    )
    parser.add_argument(
        "--backend", choices=backend_names(), help="default: that of files with this ending"
    )
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="precision of the model (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    add_clock(parser)
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error(f"--threads must be positive, got {options.threads}")
    check_clock(parser, options.clock, options.device)
    torch.set_num_threads(options.threads)
    try:
        atoms = next(iter(read_structures(options.structures)))[1]
        for size in options.atoms:
            repeats(atoms, size)  # before anything takes long
        settings = {"device": options.device, "dtype": options.dtype}
        calculators = [
            get_backend(options.backend or backend_of(model)).calculator(
                model, allow_pickle=options.allow_pickle, **settings
            )
            for model in (options.short_range, options.les)
        ]
        _check_pair(calculators, atoms)
        tqdm.write(f"time: {options.clock}")
        tqdm.write(HEADER)
        for step in measure(atoms, calculators, options.atoms, options.device, options.clock):
            tqdm.write(step.line())
    except (BackendError, DataError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0


def _check_pair(calculators: Sequence[Any], atoms: Atoms) -> None:
    """Refuse models that are not a pair; the order of the arguments is easily mistaken."""
    for calculator, name, les in zip(calculators, ("short_range", "les"), (False, True)):
        copy = bare(atoms)
        copy.calc = calculator
        copy.get_forces()
        if ("les_energy" in calculator.results) != les:
            raise ValueError(f"`{name}` must be a model {'with' if les else 'without'} LES")
