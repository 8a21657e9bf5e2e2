"""The trainings of a suite in this environment, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from les.backends import get_backend
from les.locks import locked
from les_bench.suite.cell import Cell, Settings
from les_bench.suite.evaluate import EvaluationError
from les_bench.suite.run import config_file, execute
from les_bench.suite.workspace import TrainingError
from les_bench.systems.datasets import load
from les_bench.systems.systems import get_system

LOG = logging.getLogger("les")


def run_here(cells: Sequence[Cell], settings: Settings, output: Path) -> list[str]:
    """Carry out all trainings, in their order; what is done already is skipped.

    Args:
        cells: the trainings; those of a pair follow one another, so that their times see the same
            load of the machine.
        settings: what they have in common.
        output: folder of the results; one suite at a time may write to it.

    Returns:
        Names of those that failed (the others are done all the same).

    Raises:
        ValueError: for settings that are not possible, and for a model without the configuration
            of a system.
        les.backends.BackendError, DataError: for a model or data that are not there.
        les.locks.InUseError: if another process writes to ``output``.
    """
    backends = {cell.model: get_backend(cell.model) for cell in cells}
    for backend in backends.values():
        backend.require()
    for cell in cells:  # fail before hours of work, not after
        config_file(backends[cell.model], get_system(cell.system).config)
    names = dict.fromkeys(cell.system for cell in cells)
    datasets = {name: load(get_system(name), settings.data) for name in names}
    runs = [settings.run(cell, datasets[cell.system]) for cell in cells]
    failed = []
    output.mkdir(parents=True, exist_ok=True)
    with locked(output), logging_redirect_tqdm():
        for run in (progress := tqdm(runs, unit="run", desc="les bench")):
            progress.set_postfix_str(run.name)
            try:
                execute(run, backends[run.model], output.resolve(), progress.set_postfix_str)
            except (TrainingError, EvaluationError, OSError) as error:
                LOG.error("%s failed: %s", run.name, error)
                failed.append(run.name)
            except Exception:  # one broken adapter or model must not end a suite of hours
                LOG.exception("%s failed", run.name)
                failed.append(run.name)
    return failed
