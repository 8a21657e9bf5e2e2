"""``les bench response``: Born effective charges of a model, exact and by the published formula.

Their cost in one interleaved run, how much they differ, and how much they change in a supercell,
where they must not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from les.backends import BackendError, backend_names, backend_of, get_backend
from les.data.structure_files import DataError, read_structures
from les.parser import ArgumentParser
from les_bench.speed.timing import interleaved

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

HEADER = (
    f"{'structure':<14}{'forces/ms':>10}{'phase/ms':>10}{'exact/ms':>10}{'exact/phase':>12}"
    f"{'difference/e':>14}{'supercell: phase':>18}{'exact/e':>10}"
)


class Contest:
    """One model with all ways of evaluating Born effective charges."""

    def __init__(self, model: Path, backend: str | None, **options: Any) -> None:
        self.backend = get_backend(backend or backend_of(model))
        self.forces, self.phase, self.exact = (
            self.backend.calculator(model, bec=bec, **options) for bec in (False, "phase", "exact")
        )

    def line(self, name: str, atoms: Atoms, repeats: Sequence[int]) -> str:
        """The line of the table for one structure."""
        phase, exact = (_response(calc, atoms) for calc in (self.phase, self.exact))
        line = f"{name:<14}"
        timed = interleaved(
            lambda: self.forces.calculate(atoms),
            lambda: self.exact.calculate(atoms),
            lambda: self.phase.calculate(atoms),
        )
        forces, ours, published = (1e3 * taken for taken in timed.seconds)
        line += f"{forces:>10.1f}{published:>10.1f}{ours:>10.1f}{timed.ratios[1]:>12.2f}"
        line += f"{_rms(exact - phase):>14.2e}"
        along = np.where(atoms.pbc, repeats, 1)
        if along.prod() == 1:
            return line + f"{'-':>18}{'-':>10}"
        larger = atoms.repeat(along)
        for calc, small, width in ((self.phase, phase, 18), (self.exact, exact, 10)):
            change = _response(calc, larger)[: len(atoms)] - small
            line += f"{np.abs(change).max():>{width}.1e}"
        return line


def _response(calc: Any, atoms: Atoms) -> NDArray[np.float64]:
    calc.calculate(atoms)
    found: NDArray[np.float64] = calc.results["born_effective_charges"]
    return found


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def table(contest: Contest, structures: Path, most: int, repeats: Sequence[int]) -> Iterator[str]:
    """Lines for the first ``most`` structures of a file."""
    yield HEADER
    for number, (_, atoms) in zip(range(most), read_structures(structures)):
        atoms.calc = None
        yield contest.line(f"{number}: {len(atoms)} atoms", atoms, repeats)


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench response",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("structures", type=Path, help="a file of any format that ASE reads")
    parser.add_argument("--first", type=int, default=1, help="how many of them; default: 1")
    parser.add_argument(
        "--supercell", type=int, nargs=3, default=[2, 1, 1], help="default: 2 1 1; 1 1 1 for none"
    )
    parser.add_argument(
        "--backend", choices=backend_names(), help="default: that of files with this ending"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the model (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    options = parser.parse_args(argv)
    for name in ("threads", "first"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be positive, got {getattr(options, name)}")
    if min(options.supercell) < 1:
        parser.error(f"--supercell must be positive numbers, got {options.supercell}")
    torch.set_num_threads(options.threads)
    try:
        contest = Contest(
            options.model, options.backend, dtype=options.dtype, allow_pickle=options.allow_pickle
        )
        for line in table(contest, options.structures, options.first, options.supercell):
            tqdm.write(line)
    except (BackendError, DataError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0
