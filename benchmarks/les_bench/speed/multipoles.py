"""What dipoles and quadrupoles add to the time of the sum of charges, in one interleaved run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from les import Ewald
from les_bench.speed.cases import Case
from les_bench.speed.timing import interleaved, seconds

#: Structures, and how they are summed.
CASES = (
    (Case("192 atoms", 1, 192, True), "direct"),
    (Case("32 x 192 atoms", 32, 192, True), "direct"),
    (Case("32 x 50 atoms, open", 32, 50, False), "direct"),
    (Case("1536 atoms", 1, 1536, True), "mesh"),
)

#: Least time of a turn [s]: small structures are evaluated several times in a row.
TURN = 0.02

#: Most that charges and dipoles, and these and quadrupoles, may take per charges alone.
BARS = {"dipoles": 2.5, "quadrupoles": 5.0}


def moments(n_atoms: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random dipoles ``[n_atoms, 3]`` and traceless quadrupoles ``[n_atoms, 3, 3]``."""
    generator = torch.Generator().manual_seed(1)
    dipoles = 0.3 * torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64)
    values = 0.1 * torch.randn(n_atoms, 3, 3, generator=generator, dtype=torch.float64)
    values = values + values.mT
    trace = values.diagonal(dim1=1, dim2=2).mean(dim=1)
    quadrupoles = values - trace.view(-1, 1, 1) * torch.eye(3, dtype=torch.float64)
    return dipoles.to(dtype), quadrupoles.to(dtype)


def gradients(
    ewald: Ewald,
    inputs: tuple[Tensor, ...],
    multipoles: tuple[Tensor, ...],
    training: bool,
) -> tuple[Tensor, ...]:
    """Forces, and derivatives with respect to all moments; or those of a loss on these.

    Args:
        ewald: the sum.
        inputs: charges, positions, cells and batch index.
        multipoles: dipoles and quadrupoles, as far as there are.
        training: evaluate the gradient of a loss.
    """
    leaves = [value.detach().requires_grad_() for value in (*inputs[:2], *multipoles)]
    if multipoles:
        dipoles, quadrupoles = (*leaves[2:], None)[:2]
        energy, _ = ewald.multipoles(
            *leaves[:2], *inputs[2:], dipoles=dipoles, quadrupoles=quadrupoles
        )
    else:
        energy, _ = ewald(*leaves, *inputs[2:])
    found = torch.autograd.grad(energy.sum(), leaves, create_graph=training)
    if not training:
        return found
    loss = torch.stack([value.square().sum() for value in found]).sum()
    return torch.autograd.grad(loss, leaves)


def multipole_table(dtype: torch.dtype) -> Iterator[str]:
    """Lines of the comparison: times of the processor, which other processes change little."""
    bars = " and ".join(f"{bar:g} with {what}" for what, bar in BARS.items())
    yield f"dl = 2 A; time per that of charges alone, of which energy + forces may take {bars}"
    yield (f"{'case':<22}{'method':<8}{'':<18}{'charges/ms':>11}{'dipoles':>9}{'quadrupoles':>13}")
    for case, method in tqdm(CASES, unit="case", leave=False):
        ewald = Ewald(cutoff="sharp", method=method)
        inputs = case.inputs(dtype)
        both = moments(len(inputs[0]), dtype)
        for training in (False, True):
            evaluations = [
                functools.partial(gradients, ewald, inputs, some, training)
                for some in (both[:1], both, ())
            ]
            for evaluate in evaluations:
                evaluate()
            n = max(1, round(TURN / seconds(evaluations[-1])))
            turns = [functools.partial(_repeat, evaluate, n) for evaluate in evaluations]
            timed = interleaved(*turns, clock=time.process_time)
            what = "double backward" if training else "energy + forces"
            yield (
                f"{case.title:<22}{method:<8}{what:<18}{1e3 * timed.seconds[2] / n:>11.2f}"
                f"{timed.ratios[0]:>9.2f}{timed.ratios[1]:>13.2f}"
            )


def _repeat(evaluate: Callable[[], Any], n: int) -> None:
    for _ in range(n):
        evaluate()
