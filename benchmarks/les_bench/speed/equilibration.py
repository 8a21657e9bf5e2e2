"""``les bench equilibration``: what charge equilibration costs, and how many iterations it takes.

Energy and forces of random structures as dense as water, once of charges as they are, and once of
charges that minimise the energy. Times are those of the processor.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from les.conjugate_gradients import DEFAULT_CONVERGENCE, Convergence
from les.equilibration import equilibrate
from les.parser import ArgumentParser
from les.structures import NO_SUMS, Structures
from les_bench.speed.cases import Case, energies_of, energy_and_forces
from les_bench.speed.timing import interleaved

CASES = (
    Case("192 atoms", 1, 192, True),
    Case("1536 atoms", 1, 1536, True),
    Case("32 x 192 atoms", 32, 192, True),
    Case("32 x 50 atoms, open", 32, 50, False),
)

HEADER = (
    f"{'structures':<22}{'hardness':>10}{'iterations':>12}{'charges/ms':>12}"
    f"{'equilibrated/ms':>17}{'ratio':>8}"
)


class Equilibrated:
    """Energies of equilibrated charges; the charges given tell electronegativities.

    Args:
        case: what is evaluated.
        hardness: that of all atoms [eV/e^2].
        tolerance: as for ``les.equilibration.equilibrate``.
    """

    def __init__(self, case: Case, hardness: float, tolerance: float) -> None:
        self.settings = case.ewald().settings()
        self.hardness, self.tolerance = hardness, tolerance
        #: Those of the structure that took most, in the last evaluation.
        self.iterations = 0

    def __call__(self, charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
        """Energies of atoms ``[n_atoms]`` [eV]."""
        hardness = torch.full_like(charges, self.hardness)
        found = equilibrate(
            self.hardness * charges,
            hardness,
            Structures(positions, cell, batch, None),
            self.settings,
            NO_SUMS,
            Convergence(self.tolerance),
        )
        self.iterations = int(found.iterations.max())
        return found.atom_energies


def table(
    dtype: torch.dtype, hardnesses: list[float], tolerance: float, training: bool
) -> Iterator[str]:
    """Lines for all cases."""
    yield HEADER
    for case in CASES:
        inputs, plain = case.inputs(dtype), energies_of(case.ewald())
        for hardness in hardnesses:
            ours = Equilibrated(case, hardness, tolerance)
            for energy in (plain, ours):
                energy_and_forces(energy, inputs, training)
            iterations = ours.iterations
            timed = interleaved(
                functools.partial(energy_and_forces, ours, inputs, training),
                functools.partial(energy_and_forces, plain, inputs, training),
                clock=time.process_time,
            )
            with_it, without = (1e3 * taken for taken in timed.seconds)
            yield (
                f"{case.title:<22}{hardness:>10g}{iterations:>12}{without:>12.1f}{with_it:>17.1f}"
                f"{timed.ratios[0]:>8.1f}"
            )


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench equilibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--hardness", type=float, nargs="+", default=[10.0], help="eV/e^2; default: 10"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=DEFAULT_CONVERGENCE.tolerance,
        help="of the charges, relative; default: %(default)s",
    )
    parser.add_argument("--training", action="store_true", help="with the gradient of a loss")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the sum (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error(f"--threads must be positive, got {options.threads}")
    if min(options.hardness) <= 0:
        parser.error(f"--hardness must be positive, got {options.hardness}")
    if not 0.0 < options.tolerance < 1.0:
        parser.error(f"--tolerance must be between 0 and 1, got {options.tolerance}")
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    for line in table(dtype, options.hardness, options.tolerance, options.training):
        tqdm.write(line)
    return 0
