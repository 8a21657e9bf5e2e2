"""``les bench kernels``: the speed of ``les.Ewald`` against the plain sum, and how it grows.

With ``--peers`` against other packages, at the same error of the forces; with ``--compilers`` in
TorchScript and ``torch.compile`` against itself; with ``--multipoles`` the sums of dipoles and
quadrupoles against that of charges; with ``--shipped`` the kernels of an installed wheel against
those that are compiled on this machine.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
from collections.abc import Iterator, Sequence

import torch
from tqdm import tqdm

from les.parser import ArgumentParser
from les.sums.cpu.library import library
from les_bench.speed.cases import Case, Energy, energies_of, energy_and_forces
from les_bench.speed.compilers import compiler_table
from les_bench.speed.matching import compare_at_error
from les_bench.speed.multipoles import multipole_table
from les_bench.speed.naive import naive_energy
from les_bench.speed.peers import contestants
from les_bench.speed.shipped import shipped_table
from les_bench.speed.timing import Comparison, interleaved, seconds

CASES = (
    Case("192 atoms", 1, 192, True),
    Case("1536 atoms", 1, 1536, True),
    Case("32 x 192 atoms", 32, 192, True),
    Case("32 x 50 atoms, open", 32, 50, False),
    Case("5184 atoms, 1e-4", 1, 5184, True, accuracy=1e-4),
)

#: Sizes that the plain sum does not reach, or not in reasonable time.
GROWTH = tuple(
    Case(f"{n_atoms} atoms, 1e-4", 1, n_atoms, True, accuracy=1e-4)
    for n_atoms in (5184, 20736, 103680, 311040)
)

#: The sum over pairs would need tens of GB.
LARGE_OPEN = Case("20736 atoms, open", 1, 20736, False)

#: How often each of those is evaluated.
EVALUATIONS = 3

#: What the peers take part in; they have no open structures.
PEER_CASES = (
    Case("192 atoms", 1, 192, True),
    Case("32 x 192 atoms", 32, 192, True),
    Case("1536 atoms", 1, 1536, True),
    Case("5184 atoms", 1, 5184, True),
    Case("103680 atoms", 1, 103680, True),
)


def growth(dtype: torch.dtype, training: bool) -> tuple[list[float], float]:
    """Times of ``les.Ewald`` [s] for :data:`GROWTH`, and their exponent in the number of atoms."""
    times = [median_time(case, dtype, training) for case in GROWTH]
    x = [math.log(case.n_atoms) for case in GROWTH]
    slope, _ = statistics.linear_regression(x, [math.log(value) for value in times])
    return times, slope


def median_time(case: Case, dtype: torch.dtype, training: bool) -> float:
    """Of ``les.Ewald`` alone [s]."""
    inputs, ours = case.inputs(dtype), energies_of(case.ewald())
    evaluate = functools.partial(energy_and_forces, ours, inputs, training)
    return statistics.median([seconds(evaluate) for _ in range(EVALUATIONS + 1)][1:])


def compare(case: Case, dtype: torch.dtype, training: bool) -> tuple[Comparison, float]:
    """Times of the plain sum and ``les.Ewald``, and their results' largest relative difference."""
    inputs, ours = case.inputs(dtype), energies_of(case.ewald())
    contestants: tuple[Energy, Energy] = (naive_energy, ours)
    first, second = (energy_and_forces(energy, inputs, training) for energy in contestants)
    difference = float((first - second).abs().max() / first.abs().max())
    timed = interleaved(
        lambda: energy_and_forces(naive_energy, inputs, training),
        lambda: energy_and_forces(ours, inputs, training),
    )
    return timed, difference


def plain_table(dtype: torch.dtype) -> Iterator[str]:
    """Lines of the comparison with the plain sum, and of the growth."""
    yield "dl = 2 A; les with an accuracy where one is given"
    yield f"{'case':<22}{'':<18}{'plain/ms':>10}{'les/ms':>10}{'ratio':>8}{'difference':>12}"
    for case in tqdm(CASES, unit="case", leave=False):
        for training in (False, True):
            timed, difference = compare(case, dtype, training)
            what = "double backward" if training else "energy + forces"
            plain, ours = (1e3 * taken for taken in timed.seconds)
            yield (
                f"{case.title:<22}{what:<18}{plain:>10.2f}{ours:>10.2f}"
                f"{timed.ratios[0]:>8.1f}{difference:>12.1e}"
            )
    for training in (False, True):
        what = "double backward" if training else "energy + forces"
        times, slope = growth(dtype, training)
        for case, taken in zip(GROWTH, times, strict=True):
            yield f"{case.title:<22}{what:<18}{'-':>10}{1e3 * taken:>10.2f}"
        yield f"{'exponent of time':<22}{what:<18}{'':>10}{slope:>10.2f}"
        taken = median_time(LARGE_OPEN, dtype, training)
        yield f"{LARGE_OPEN.title:<22}{what:<18}{'-':>10}{1e3 * taken:>10.2f}"


def peer_table(dtype: torch.dtype, error: float, sizes: Sequence[int]) -> Iterator[str]:
    """Lines of the comparison with other packages."""
    families, notes = contestants(dtype)
    yield f"relative error of forces at most {error:g}; ratios to the time of les"
    yield from notes
    yield f"{'case':<16}{'':<17}{'':<17}{'setting':<32}{'error':>8}{'time/ms':>11}{'ratio':>8}"
    cases = [case for case in PEER_CASES if case.n_atoms in sizes]
    for case in tqdm(cases, unit="case", leave=False):
        yield from compare_at_error(case, families, dtype, error)


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the sum (default: %(default)s)",
    )
    against = parser.add_mutually_exclusive_group()
    against.add_argument(
        "--peers", action="store_true", help="compare with other packages at the same error"
    )
    against.add_argument(
        "--compilers", action="store_true", help="compare TorchScript and torch.compile with eager"
    )
    against.add_argument(
        "--multipoles", action="store_true", help="compare dipoles and quadrupoles with charges"
    )
    against.add_argument(
        "--shipped",
        action="store_true",
        help="compare the kernels of an installed wheel with those compiled on this machine",
    )
    parser.add_argument("--error", type=float, help="with --peers, of forces; default: 1e-4")
    sizes = sorted({case.n_atoms for case in PEER_CASES})
    parser.add_argument(
        "--atoms",
        type=int,
        nargs="+",
        choices=sizes,
        help="with --peers, numbers of atoms of the structures; default: all",
    )
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error(f"--threads must be positive, got {options.threads}")
    if options.error is not None and not 1e-8 <= options.error <= 0.1:
        parser.error(f"--error must lie between 1e-8 and 0.1, got {options.error:g}")
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    if options.peers:
        lines = peer_table(dtype, options.error or 1e-4, options.atoms or sizes)
    elif options.error or options.atoms:
        parser.error("--error and --atoms belong to --peers")
    elif options.compilers:
        lines = compiler_table(dtype)
    elif options.multipoles:
        lines = multipole_table(dtype)
    elif options.shipped:
        lines = shipped_table(dtype)
    else:
        lines = plain_table(dtype)
    kernels = "compiled kernels" if library(torch.device("cpu"), dtype) else "no compiled kernels"
    tqdm.write(
        f"torch {torch.__version__}, {options.threads} thread(s), {options.dtype}, {kernels}"
    )
    for line in lines:
        tqdm.write(line)
    return 0
