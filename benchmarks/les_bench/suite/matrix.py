"""A suite across environments: every training in that of its model, and a record of all of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from les.backends import BackendError
from les.children import child
from les.locks import locked
from les_bench.suite import results
from les_bench.suite.cell import (
    DONE,
    FAILED,
    NOT_INSTALLED,
    WAITING,
    Cell,
    Settings,
    read_answer,
    write_request,
)
from les_bench.suite.environments import interpreter
from les_bench.suite.forecast import Forecast
from les_bench.suite.run import run_name
from les_bench.suite.suites import SuiteError
from les_bench.systems.labels import DataError

LOG = logging.getLogger("les")

#: What became of each training of a folder of results.
RECORD = "suite.json"
#: Requests, answers and logs, below the folder of results.
FOLDER = "cells"
#: Time between two looks at the processes [s].
INTERVAL = 0.5
#: Lines of the log of a process that ended without an answer.
TAIL = 15


@dataclass
class Matrix:
    """All trainings of a suite, and what became of them so far.

    Args:
        output: folder of the results.
        cells: the trainings.
        settings: what they have in common.
        folder: environments of the models, see :func:`~les_bench.suite.environments.interpreter`.
        explicit: model -> interpreter.
    """

    output: Path
    cells: list[Cell]
    settings: Settings
    folder: Path | None = None
    explicit: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.output = self.output.resolve()
        if self.settings.data not in ("auto", "embedded"):
            self.settings = replace(self.settings, data=str(Path(self.settings.data).resolve()))
        self.programs: dict[str, Path] = {}
        self.record: dict[str, dict[str, Any]] = {}
        self.by_name: dict[str, Cell] = {}
        self.stop = threading.Event()
        self.forecast = Forecast(self.settings.jobs)

    def run(self, suite: str = "") -> dict[str, dict[str, Any]]:
        """Do all that is left to do.

        Returns:
            Name -> what became of it: ``status``, ``error`` where it is not done, and its cell.

        Raises:
            SuiteError: if two different trainings would have the same folder.
            les.locks.InUseError: if another process writes to the folder of the results.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        with locked(self.output), logging_redirect_tqdm():
            (self.output / FOLDER).mkdir(exist_ok=True)
            self._begin()
            for model in dict.fromkeys(cell.model for cell in self.cells):
                self._plan(model)
            self._save(suite)
            waiting = [name for name, entry in self.record.items() if entry["status"] == WAITING]
            for name, entry in self.record.items():
                if entry["status"] == DONE:
                    self.forecast.learn(self.by_name[name], self.output / name)
            self._carry_out(waiting, suite)
        return self.record

    def _begin(self) -> None:
        """Name all trainings; those without data are refused here, and one name for two."""
        for cell in self.cells:
            try:
                name, outcome = self.settings.name(cell), {"status": WAITING}
            except DataError as error:
                names = cell.system, "none", cell.model, cell.variant, cell.seed
                name = run_name(*names, fraction=cell.fraction, control=cell.control)
                outcome = {"status": FAILED, "error": str(error)}
            other = self.by_name.setdefault(name, cell)
            if other != cell:
                raise SuiteError(
                    f"two different trainings have the name {name}: one with {_differing(other)}, "
                    f"the other with {_differing(cell)}; give one of them a `control`, or both "
                    "the same `epochs` and `options`"
                )
            self.record[name] = {**asdict(cell), **outcome}

    def _plan(self, model: str) -> None:
        """Ask the environment of ``model`` which of its trainings are done, and which cannot be."""
        names = [
            name
            for name, entry in self.record.items()
            if entry["model"] == model and entry["status"] == WAITING
        ]
        if not names:
            return
        try:
            self.programs[model] = interpreter(model, self.folder, self.explicit)
        except BackendError as error:
            LOG.warning("%s", error)
            for name in names:
                self.record[name].update(status=NOT_INSTALLED, error=str(error))
            return
        answer = self._ask(f"plan-{model}", "plan", model, names)
        n_done = sum(entry["status"] == DONE for entry in answer.values())
        LOG.info("%s: %s; %d of %d done already", model, self.programs[model], n_done, len(names))
        for name in names:
            self.record[name].update(answer[name])
        reasons = dict.fromkeys(entry["error"] for entry in answer.values() if "error" in entry)
        for reason in reasons:
            LOG.warning("%s: %s", model, reason)

    def _carry_out(self, waiting: list[str], suite: str) -> None:
        """Train, ``jobs`` at a time; whatever ends this ends the trainings."""
        progress = tqdm(
            total=len(self.record),
            initial=len(self.record) - len(waiting),
            desc="les bench",
            bar_format="{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}",
            disable=None,  # in a file the log tells it
        )
        with progress, ThreadPoolExecutor(self.settings.jobs) as pool:
            running = {pool.submit(self._one, name): name for name in waiting}
            try:
                while running:
                    ended, _ = wait(running, timeout=2.0, return_when=FIRST_COMPLETED)
                    for future in ended:
                        self._note(running.pop(future), future)
                        progress.update()
                        self._save(suite)
                    position = self._position(list(running.values()))
                    progress.set_postfix_str(position)
                    if ended:
                        n_done = len(self.record) - len(running)
                        LOG.info("%d of %d; %s", n_done, len(self.record), position or "all done")
            finally:
                self.stop.set()
                for future in running:
                    future.cancel()

    def _one(self, name: str) -> dict[str, Any]:
        """Carry out one training, in a process of its own."""
        cell = self.by_name[name]
        self.forecast.began(name)
        return self._ask(name, "run", cell.model, [name])[name]

    def _note(self, name: str, future: Future[dict[str, Any]]) -> None:
        """Record how a training ended."""
        entry = self.record[name]
        outcome = future.result()
        entry.pop("error", None)
        entry.update(outcome)
        if entry["status"] == DONE:
            self.forecast.learn(self.by_name[name], self.output / name)
            LOG.info("%s: done", name)
        else:
            LOG.error("%s %s: %s", name, entry["status"], entry["error"])

    def _ask(
        self, title: str, task: str, model: str, names: list[str]
    ) -> dict[str, dict[str, Any]]:
        """Start a process of the model's environment and wait for its answer."""
        request = self.output / FOLDER / f"{title}.json"
        log = request.with_suffix(".log")
        write_request(
            request, task, self.output, self.settings, {name: self.by_name[name] for name in names}
        )
        results.write_json(request.with_suffix(".answer.json"), {})
        program = self.programs[model]
        command = [str(program), "-m", "les", "bench", "cell", str(request)]
        with (
            log.open("a") as file,
            child(command, request.parent, _environment(program), file) as process,
        ):
            while not self.stop.is_set():
                try:
                    process.wait(INTERVAL)
                    break
                except subprocess.TimeoutExpired:
                    continue
        answer = read_answer(request)
        lines = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        lost = {
            "status": FAILED,
            "error": f"the process ended with status {process.returncode}; {log} ends with\n"
            + lines,
        }
        ended = (DONE, FAILED, NOT_INSTALLED, *([WAITING] if task == "plan" else []))
        return {
            name: entry if (entry := answer.get(name, lost)).get("status") in ended else lost
            for name in names
        }

    def _position(self, names: list[str]) -> str:
        """What is going on, in one line, and how long all of it will take."""
        going = [name for name in names if name in self.forecast.started]
        texts = []
        for name in going:
            answer = read_answer(self.output / FOLDER / f"{name}.json").get(name, {})
            texts.append(answer.get("position", name))
        if not names:
            return ""
        left = self.forecast.left({name: self.by_name[name] for name in names})
        if left is not None:
            texts.append(f"about {tqdm.format_interval(left)} left in all")
        return "; ".join(texts)

    def _save(self, suite: str) -> None:
        path = self.output / RECORD
        try:  # other suites may have written to this folder
            before = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError, TypeError):
            before = {}
        programs = {model: str(program) for model, program in self.programs.items()}
        content = {"suite": suite, "interpreters": programs, "cells": {**before, **self.record}}
        results.write_json(path, content)


def _differing(cell: Cell) -> str:
    """What the name of a training does not say."""
    epochs = "the configuration's" if cell.epochs is None else cell.epochs
    return f"epochs {epochs} and options {list(cell.options)}"


def _environment(program: Path) -> dict[str, str]:
    """Variables for a process of another environment: its programs come first."""
    variables = {**os.environ}
    variables["PATH"] = os.pathsep.join([str(program.parent), variables.get("PATH", "")])
    variables.pop("VIRTUAL_ENV", None)
    if folder := variables.get("LES_DATA_DIR"):
        variables["LES_DATA_DIR"] = str(Path(folder).resolve())
    return variables


def summary(record: Mapping[str, Mapping[str, Any]]) -> str:
    """How many trainings are done, and which are not, and why, in a few lines."""
    lines = []
    by_status: dict[str, list[str]] = {}
    for name, entry in record.items():
        by_status.setdefault(entry["status"], []).append(name)
    lines.append(", ".join(f"{len(names)} {status}" for status, names in by_status.items()))
    for status in (NOT_INSTALLED, FAILED):
        reasons: dict[str, list[str]] = {}
        for name in by_status.get(status, []):
            reason = str(record[name].get("error", "")).splitlines()[0]
            # What comes after a semicolon names files, which are others for each of them.
            reasons.setdefault(reason.partition(";")[0], []).append(name)
        for reason, names in reasons.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            lines.append(f"{status}: {names[0]}{more}: {reason}")
    return "\n".join(lines)
