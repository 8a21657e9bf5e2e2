"""``les bench kernels``: the speed of ``les.Ewald`` against the plain sum."""

from __future__ import annotations

import argparse
import sys
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
)


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


def compare(case: Case, dtype: torch.dtype, training: bool) -> tuple[Comparison, float]:
    """Times of the plain sum and ``les.Ewald``, and their results' largest relative difference."""
    inputs = case.inputs(dtype)
    ewald = Ewald(cutoff="sharp")

    def ours(*arguments: Tensor) -> Tensor:
        energy: Tensor = ewald(*arguments)[0]
        return energy

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
    head = (
        f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.dtype}, dl = 2 A\n"
    )
    head += f"{'case':<22}{'':<18}{'plain/ms':>10}{'les/ms':>10}{'ratio':>8}{'difference':>12}\n"
    sys.stdout.write(head + "\n".join(rows) + "\n")
    return 0
