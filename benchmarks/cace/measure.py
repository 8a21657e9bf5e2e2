"""Time and memory of ``les_cace`` against the plain evaluation: ``python benchmarks/cace``."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence

import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from les.backends import get_backend
from les.parser import ArgumentParser
from les_bench.speed.timing import interleaved
from les_bench.systems.datasets import load
from les_bench.systems.systems import get_system
from les_cace import CACE
from les_cace.batches import collate, to_structure
from memory import peak_memory
from naive import NaiveRepresentation

#: System and number of its structures in a batch.
CASES = (("water", 1), ("water", 4), ("dipeptides", 5))


class Case:
    """The model of a system's configuration, with random weights, and a batch of structures."""

    def __init__(self, system: str, n_structures: int, data: str, dtype: torch.dtype) -> None:
        frames = load(get_system(system), data).train[:n_structures]
        config = yaml.safe_load(get_backend("cace").configs()[system].read_text())
        zs = sorted({int(z) for atoms in frames for z in atoms.numbers})
        arguments = {"zs": zs, **config["model"]}
        torch.manual_seed(0)
        self.ours = CACE(arguments, {}).to(dtype)
        self.plain = copy.deepcopy(self.ours)
        self.plain.representation = NaiveRepresentation(self.ours.representation, arguments)
        self.plain.to(dtype)
        structures = [to_structure(atoms, arguments["cutoff"]) for atoms in frames]
        self.batch = collate(structures).to("cpu", dtype)
        n_atoms = len(self.batch.numbers)
        self.title = f"{system}, {n_structures} structure(s), {n_atoms} atoms"

    def evaluate(self, model: nn.Module, training: bool) -> Tensor:
        """Energies and forces; with ``training`` the gradient of a loss on them."""
        model.train(training)
        out = model(self.batch)
        if not training:
            return torch.cat([out["energy"], out["forces"].flatten()]).detach()
        model.zero_grad()
        (out["energy"].square().sum() + out["forces"].square().sum()).backward()
        return torch.cat([x.grad.flatten() for x in model.parameters() if x.grad is not None])


def measure(case: Case, training: bool) -> str:
    """A row of the table."""

    def plain() -> Tensor:
        return case.evaluate(case.plain, training)

    def ours() -> Tensor:
        return case.evaluate(case.ours, training)

    expected = plain()
    difference = float((ours() - expected).abs().max() / expected.abs().max())
    timed = interleaved(plain, ours)
    memory = peak_memory(plain), peak_memory(ours)
    what = "training step" if training else "energy + forces"
    return (
        f"{case.title:<38}{what:<17}{1e3 * timed.seconds[0]:>10.1f}{1e3 * timed.seconds[1]:>10.1f}"
        f"{timed.ratios[0]:>7.1f}{memory[0]:>11.1f}{memory[1]:>9.1f}{memory[0] / memory[1]:>7.1f}"
        f"{difference:>12.1e}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(prog="python benchmarks/cace", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--data", default="auto", help="as for `les bench run`")
    options = parser.parse_args(argv)
    get_backend("cace").require()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    cases = (Case(*key, options.data, dtype) for key in CASES)
    rows = [
        measure(case, training)
        for case in tqdm(cases, total=len(CASES), unit="case", leave=False)
        for training in (False, True)
    ]
    head = (
        f"torch {torch.__version__}, {options.threads} thread(s), {options.dtype}\n"
        f"{'':<55}{'plain/ms':>10}{'les/ms':>10}{'ratio':>7}{'plain/MiB':>11}{'les/MiB':>9}"
        f"{'ratio':>7}{'difference':>12}\n"
    )
    sys.stdout.write(head + "\n".join(rows) + "\n")
    return 0
