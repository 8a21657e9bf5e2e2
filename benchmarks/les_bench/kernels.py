"""``les bench kernels``: the speed of ``les.Ewald`` against the plain sum, and how it grows."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from les import Ewald
from les_bench.naive import naive_energy
from les_bench.timing import Comparison, interleaved

#: Number density of atoms in water [1/A^3].
DENSITY = 0.1

Energy = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A batch of equal structures with random positions and charges."""

    title: str
    n_structures: int
    n_atoms: int
    periodic: bool
    #: Accuracy of forces that ``les.Ewald`` is asked for; without it, the plain sum's ``dl``.
    accuracy: float | None = None

    def ewald(self) -> Ewald:
        """The sum to be measured."""
        return Ewald(cutoff="sharp", accuracy=self.accuracy)

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Charges, positions, cells and batch index."""
        generator = torch.Generator().manual_seed(0)
        total = self.n_structures * self.n_atoms
        edge = (self.n_atoms / DENSITY) ** (1.0 / 3.0)
        positions = edge * torch.rand(total, 3, generator=generator, dtype=torch.float64)
        charges = torch.randn(total, generator=generator, dtype=torch.float64)
        cell = edge * torch.eye(3, dtype=torch.float64) * float(self.periodic)
        batch = torch.arange(self.n_structures).repeat_interleave(self.n_atoms)
        return (
            charges.to(dtype),
            positions.to(dtype),
            cell.to(dtype).repeat(self.n_structures, 1, 1),
            batch,
        )


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
    for n_atoms in (5184, 20736, 103680)
)

#: How often each of those is evaluated.
EVALUATIONS = 3


def energy_and_forces(energy: Energy, inputs: tuple[Tensor, ...], training: bool) -> Tensor:
    """One evaluation; with ``training`` also the gradient of a loss on the forces.

    Returns the forces, or the gradient of the loss with respect to the charges.
    """
    charges, positions, cell, batch = inputs
    charges = charges.detach().requires_grad_()
    positions = positions.detach().requires_grad_()
    total = energy(charges, positions, cell, batch).sum()
    forces, potential = torch.autograd.grad(total, (positions, charges), create_graph=training)
    if not training:
        return -forces
    loss = (forces**2).sum() + (potential**2).sum()
    return torch.autograd.grad(loss, (charges, positions))[0]


def energies_of(ewald: Ewald) -> Energy:
    """The sum without its potential."""

    def energy(*arguments: Tensor) -> Tensor:
        found: Tensor = ewald(*arguments)[0]
        return found

    return energy


def growth(dtype: torch.dtype, training: bool) -> tuple[list[float], float]:
    """Times of ``les.Ewald`` [s] for :data:`GROWTH`, and their exponent in the number of atoms."""
    times = []
    for case in GROWTH:
        inputs, ours = case.inputs(dtype), energies_of(case.ewald())
        taken = []
        for _ in range(EVALUATIONS + 1):
            start = time.perf_counter()
            energy_and_forces(ours, inputs, training)
            taken.append(time.perf_counter() - start)
        times.append(statistics.median(taken[1:]))
    x = [math.log(case.n_atoms) for case in GROWTH]
    slope, _ = statistics.linear_regression(x, [math.log(value) for value in times])
    return times, slope


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


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="les bench kernels", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    rows = []
    for case in tqdm(CASES, unit="case", leave=False):
        for training in (False, True):
            timed, difference = compare(case, dtype, training)
            what = "double backward" if training else "energy + forces"
            rows.append(
                f"{case.title:<22}{what:<18}{1e3 * timed.plain:>10.2f}{1e3 * timed.ours:>10.2f}"
                f"{timed.ratio:>8.1f}{difference:>12.1e}"
            )
    for training in (False, True):
        what = "double backward" if training else "energy + forces"
        times, slope = growth(dtype, training)
        for case, seconds in zip(GROWTH, times, strict=True):
            rows.append(f"{case.title:<22}{what:<18}{'-':>10}{1e3 * seconds:>10.2f}")
        rows.append(f"{'exponent of time':<22}{what:<18}{'':>10}{slope:>10.2f}")
    head = (
        f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.dtype}, dl = 2 A; "
        "les with an accuracy where one is given\n"
    )
    head += f"{'case':<22}{'':<18}{'plain/ms':>10}{'les/ms':>10}{'ratio':>8}{'difference':>12}\n"
    sys.stdout.write(head + "\n".join(rows) + "\n")
    return 0
