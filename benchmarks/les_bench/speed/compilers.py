"""What TorchScript and ``torch.compile`` add to the time of the sum, in one interleaved run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

import torch
import torch._dynamo.config
from torch import Tensor

from les import Ewald
from les_bench.speed.cases import Case, Energy, energies_of, energy_and_forces
from les_bench.speed.timing import interleaved

#: Small, so that what is around the sum shows.
CASE = Case("192 atoms", 1, 192, True)

#: Evaluations before times are taken: TorchScript optimises what it has run twice.
WARMING_UP = 4

Evaluation = Callable[[], Tensor]


def evaluations(
    ewald: Ewald, inputs: tuple[Tensor, ...], training: bool
) -> list[tuple[str, Evaluation]]:
    """One evaluation by each way, eager last.

    Args:
        ewald: the sum.
        inputs: charges, positions, cells and batch index.
        training: evaluate also the gradient of a loss on the forces.
    """

    def of(energy: Energy) -> Evaluation:
        return functools.partial(energy_and_forces, energy, inputs, training)

    eager = energies_of(ewald)
    module = torch.jit.script(ewald)

    def scripted(*arguments: Tensor) -> Tensor:
        energy: Tensor = module(*arguments)[0]
        return energy

    compiled = _compiled_training(eager, inputs) if training else of(torch.compile(eager))
    return [("TorchScript", of(scripted)), ("torch.compile", compiled), ("eager", of(eager))]


def _compiled_training(energy: Energy, inputs: tuple[Tensor, ...]) -> Evaluation:
    """Forces are part of what is compiled: compiled code is differentiated once from outside."""

    @torch.compile(fullgraph=True)
    def loss(charges: Tensor, positions: Tensor) -> Tensor:
        total = energy(charges, positions, *inputs[2:]).sum()
        gradients = torch.autograd.grad(total, (positions, charges), create_graph=True)
        return gradients[0].square().sum() + gradients[1].square().sum()

    def evaluate() -> Tensor:
        charges, positions = (value.detach().requires_grad_() for value in inputs[:2])
        return torch.autograd.grad(loss(charges, positions), (charges, positions))[0]

    return evaluate


def compiler_table(dtype: torch.dtype) -> Iterator[str]:
    """Lines of the comparison with eager evaluation."""
    ewald, inputs = CASE.ewald(), CASE.inputs(dtype)
    yield f"{CASE.title}; shortest processor times, and their ratios to those of eager ones"
    yield f"{'':<18}{'':<16}{'time/ms':>10}{'ratio':>8}{'difference':>12}"
    for training in (False, True):
        what = "double backward" if training else "energy + forces"
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            ways = evaluations(ewald, inputs, training)
            expected = ways[-1][1]()
            for _, evaluate in ways:
                for _ in range(WARMING_UP):
                    evaluate()
            differences = [
                float((evaluate() - expected).abs().max() / expected.abs().max())
                for _, evaluate in ways
            ]
            timed = interleaved(*(evaluate for _, evaluate in ways), clock=time.process_time)
        for (name, _), taken, difference in zip(ways, timed.shortest, differences, strict=True):
            ratio = taken / timed.shortest[-1]
            yield f"{what:<18}{name:<16}{1e3 * taken:>10.3f}{ratio:>8.2f}{difference:>12.1e}"
