"""One training of a suite, carried out in the environment of its model.

The process that runs the suite writes a request, a JSON file, and starts ``python -m les bench
cell REQUEST`` with the interpreter of the model. The answer is a JSON file beside the request; it
is replaced as the training goes on, so that the suite can tell how far it is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from les.backends import BackendError, get_backend
from les.ranges import check_number
from les_bench.suite import results
from les_bench.suite.run import Run, config_file, execute, run_name
from les_bench.systems.datasets import Dataset, find, load
from les_bench.systems.labels import DataError
from les_bench.systems.systems import get_system

LOG = logging.getLogger("les")

#: What can become of a training.
WAITING, RUNNING, DONE = "waiting", "running", "done"
NOT_INSTALLED, FAILED = "not installed", "failed"


@dataclass(frozen=True)
class Cell:
    """One training: its place in the table of a suite."""

    system: str
    model: str
    variant: str
    seed: int
    epochs: int | None = None
    #: Share of the training set.
    fraction: float = 1.0
    #: What it is a control of, and further options of its training command.
    control: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What all trainings of a suite have in common."""

    data: str = "auto"
    threads: int = 1
    device: str = "cpu"
    dtype: str = "float64"
    eps_inf: float | None = None
    extra: tuple[str, ...] = field(default=())
    #: Trainings at the same time, which slow one another down.
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in ("threads", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.eps_inf is not None:
            check_number("eps_inf", self.eps_inf, "epsilon_factor")

    def name(self, cell: Cell) -> str:
        """The name of a training's folder.

        Raises:
            DataError: if there are no data for its system.
        """
        source = find(get_system(cell.system), self.data)[0]
        names = cell.system, source, cell.model, cell.variant
        return run_name(*names, cell.seed, fraction=cell.fraction, control=cell.control)

    def run(self, cell: Cell, dataset: Dataset) -> Run:
        """The run that carries out a training on a loaded data set."""
        return Run(
            dataset.reduced(cell.fraction, cell.seed),
            cell.model,
            cell.variant,
            cell.seed,
            cell.epochs,
            self.threads,
            self.device,
            self.dtype,
            (*self.extra, *cell.options),
            self.eps_inf,
            self.jobs,
            cell.control,
        )


def write_request(
    path: Path, task: str, output: Path, settings: Settings, cells: Mapping[str, Cell]
) -> None:
    """Write what a process is to do: ``task`` is ``"plan"`` or ``"run"``, cells are by name."""
    table = {name: asdict(cell) for name, cell in cells.items()}
    content = {"task": task, "output": str(output), "settings": asdict(settings), "cells": table}
    results.write_json(path, content)


def answer_file(request: Path) -> Path:
    """The file with the answer to a request."""
    return request.with_suffix(".answer.json")


def read_answer(request: Path) -> dict[str, Any]:
    """Name of each cell -> ``status`` and, where there are, ``error``, ``position``, ``epochs``."""
    try:
        answer = json.loads(answer_file(request).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nothing yet
        return {}
    return answer if isinstance(answer, dict) else {}


def main(arguments: list[str]) -> int:
    """Do what a request says; returns 0 if an answer was written."""
    request = Path(arguments[0])
    content = json.loads(request.read_text(encoding="utf-8"))
    given = content["settings"]
    settings = Settings(**{**given, "extra": tuple(given["extra"])})
    cells = {
        name: Cell(**{**entry, "options": tuple(entry.get("options", ()))})
        for name, entry in content["cells"].items()
    }
    work = {"plan": _plan, "run": _run}[content["task"]]
    if not LOG.hasHandlers():
        logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.INFO)
    work(cells, settings, Path(content["output"]), answer_file(request))
    return 0


def _plan(cells: Mapping[str, Cell], settings: Settings, output: Path, answer: Path) -> None:
    """Tell of each training whether it is done, is to be done, or cannot be."""
    plan: dict[str, dict[str, Any]] = {}
    loaded: dict[str, Dataset] = {}
    for name, cell in cells.items():
        try:
            backend = get_backend(cell.model)
            backend.require()
            config_file(backend, get_system(cell.system).config)
            if cell.system not in loaded:
                loaded[cell.system] = load(get_system(cell.system), settings.data)
            run = settings.run(cell, loaded[cell.system])
            identity = results.configuration_hash(run.configuration(backend))
            plan[name] = {"status": DONE if _is_done(output / name, identity) else WAITING}
        except (BackendError, DataError, ValueError, OSError) as error:
            plan[name] = _refusal(error)
    results.write_json(answer, plan)


def _is_done(folder: Path, identity: str) -> bool:
    try:
        found: str = results.read_result(folder / results.RESULT)["hash"]
    except results.ResultError:
        return False
    return found == identity


def _run(cells: Mapping[str, Cell], settings: Settings, output: Path, answer: Path) -> None:
    """Carry out the only training of a request."""
    ((name, cell),) = cells.items()

    def tell(position: str) -> None:
        results.write_json(answer, {name: {"status": RUNNING, "position": position}})

    try:
        backend = get_backend(cell.model)
        backend.require()
        run = settings.run(cell, load(get_system(cell.system), settings.data))
        execute(run, backend, output, tell)
        outcome = {"status": DONE}
    except Exception as error:  # whatever it is, the suite goes on, and the log has where
        LOG.exception("%s failed", name)
        outcome = _refusal(error)
    results.write_json(answer, {name: outcome})


def _refusal(error: Exception) -> dict[str, Any]:
    status = NOT_INSTALLED if isinstance(error, BackendError) else FAILED
    known = isinstance(error, (BackendError, DataError, OSError, RuntimeError, ValueError))
    kind = type(error).__name__
    text = str(error).strip() or kind if known else f"{kind}: {error}"
    return {"status": status, "error": text}
