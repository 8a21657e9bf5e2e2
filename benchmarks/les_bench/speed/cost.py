"""``les bench cost``: how much longer a model takes with LES, in training and with its calculator.

The model is trained for a few epochs without and with LES, in turn, again and again, on the first
structures of a system. An epoch is compared with the same one of the neighbouring run without LES,
the first left out, which pays for warming up. The calculators of two such models take turns, call
by call. Options after `--` go to both trainings.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from les.backends import BackendError, backend_names, get_backend
from les.parser import ArgumentParser
from les_bench.speed.timing import seconds
from les_bench.suite.run import config_file
from les_bench.suite.workspace import TrainingError, Workspace, train
from les_bench.systems.datasets import Dataset, load
from les_bench.systems.labels import DataError
from les_bench.systems.systems import SYSTEMS, get_system

if TYPE_CHECKING:
    from les.backends import Backend

#: Names of runs without and with LES.
VARIANTS = {False: "sr", True: "les"}

#: Numbers among the options: default, least, and what they are of.
NUMBERS = {
    "frames": (8, 1, "structures to train on"),
    "epochs": (5, 3, "epochs of each training"),
    "pairs": (3, 1, "trainings with LES, and as many without"),
    "calls": (40, 2, "calls of each calculator"),
    "threads": (1, 1, "CPU threads"),
}

HEADER = f"{'':<24}{'without/s':>11}{'with/s':>11}{'ratio':>9}{'quartiles':>18}{'pairs':>7}"


@dataclass(frozen=True)
class Contest:
    """One model on one system, with LES and without.

    Attributes:
        backend: the model.
        dataset: the structures to train on and to validate with.
        folder: where the trainings are.
        threads: CPU threads.
        epochs: of each training.
        extra: options of both trainings.
    """

    backend: Backend
    dataset: Dataset
    folder: Path
    threads: int
    epochs: int
    extra: tuple[str, ...]

    def epochs_of(self, name: str, *, les: bool) -> tuple[list[float], Path]:
        """Times of all epochs of a training but the first [s], and its model."""
        workspace = Workspace.open(self.folder, name, name)
        job = workspace.job(
            self.dataset,
            config=config_file(self.backend, self.dataset.system.config),
            epochs=self.epochs,
            extra=self.extra,
        )
        train(self.backend, job, workspace, les=les, threads=self.threads)
        times = [record.seconds for record in self.backend.history(job)[1:]]
        return [time for time in times if time is not None], self.backend.trained_model(job)

    def trainings(self, n_pairs: int) -> tuple[list[tuple[float, float]], dict[bool, Path]]:
        """Times of epochs without and with LES [s], and the last model of each."""
        pairs: list[tuple[float, float]] = []
        models: dict[bool, Path] = {}
        for number in tqdm(range(n_pairs), unit="pair of trainings", leave=False):
            times: dict[bool, list[float]] = {}
            for les in (False, True) if number % 2 == 0 else (True, False):
                name = f"{VARIANTS[les]}-{number + 1}"
                times[les], models[les] = self.epochs_of(name, les=les)
            pairs += zip(times[False], times[True], strict=True)
        return pairs, models

    def calls(
        self, models: dict[bool, Path], n_calls: int, dtype: str
    ) -> list[tuple[float, float]]:
        """Times of calls of the calculators without and with LES [s], one after the other."""
        atoms = self.dataset.valid[0].copy()
        # The pickles, if they are such, were written by these very runs.
        calculators = {
            les: self.backend.calculator(models[les], dtype=dtype, allow_pickle=True)
            for les in (False, True)
        }
        for calculator in 2 * list(calculators.values()):  # to warm up
            calculator.calculate(atoms)
        pairs = []
        for number in range(n_calls):
            order = (False, True) if number % 2 == 0 else (True, False)
            times = {les: seconds(partial(calculators[les].calculate, atoms)) for les in order}
            pairs.append((times[False], times[True]))
        return pairs


def line(what: str, pairs: Sequence[tuple[float, float]]) -> str:
    """A line of the table: medians of the times and of their ratios, and quartiles of these."""
    without, with_les = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [long / short for short, long in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{what:<24}{without:>11.4f}{with_les:>11.4f}{middle:>9.3f}{f'{low:.3f}-{high:.3f}':>18}"
        f"{len(pairs):>7}"
    )


def table(contest: Contest, n_pairs: int, n_calls: int, dtype: str) -> Iterator[str]:
    """The lines of the table, as they come."""
    epochs, models = contest.trainings(n_pairs)
    yield HEADER
    yield line(f"epoch of {len(contest.dataset.train)}", epochs)
    n_atoms = len(contest.dataset.valid[0])
    yield line(f"call, {n_atoms} atoms", contest.calls(models, n_calls, dtype))


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = ArgumentParser(
        prog="les bench cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", choices=backend_names(), default="mace", help="default: %(default)s"
    )
    parser.add_argument(
        "--system", choices=list(SYSTEMS), default="water", help="default: %(default)s"
    )
    parser.add_argument("--data", default="auto", help="as for `les bench run`")
    for name, (default, _, what) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what}; {default}")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the model (default: %(default)s)",
    )
    given, extra = list(sys.argv[1:] if argv is None else argv), []
    if "--" in given:
        given, extra = given[: given.index("--")], given[given.index("--") + 1 :]
    options = parser.parse_args(given)
    for name, (_, least, _) in NUMBERS.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(options, name)}")
    torch.set_num_threads(options.threads)
    try:
        dataset = load(get_system(options.system), options.data)
        few = replace(dataset, train=dataset.train[: options.frames], valid=dataset.valid[:1])
        with tempfile.TemporaryDirectory(prefix="les-bench-") as folder:
            contest = Contest(
                get_backend(options.model),
                few,
                Path(folder),
                options.threads,
                options.epochs,
                tuple(extra),
            )
            for text in table(contest, options.pairs, options.calls, options.dtype):
                tqdm.write(text)
    except (BackendError, DataError, TrainingError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0
