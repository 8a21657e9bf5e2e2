"""A whole distillation: all stages and rounds that have not been done, here or elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from les.children import child
from les.distillation import evaluation
from les.distillation.provenance import write_json
from les.distillation.rounds import STAGES as ROUND_STAGES
from les.distillation.rounds import Round, log_path
from les.distillation.rounds_table import rows_of, summary, verdict
from les.distillation.settings import RoundSettings
from les.distillation.stages import KEPT, STAGES, Distillation
from les.locks import locked


def run(distillation: Distillation, tell: Callable[[str], None]) -> str:
    """Do all stages that have not been done; returns the table of the results.

    Stages that need another environment run there, in processes that end with this one.

    Args:
        distillation: what to do.
        tell: is told which stage comes.

    Raises:
        BackendError, ValueError, OSError: as ``Distillation.perform``; what goes wrong in another
            environment is printed there.
    """
    settings = distillation.settings
    teachers = [each.name for each in settings.teachers]
    steps = [
        (stage, teacher)
        for stage, for_each in STAGES.items()
        for teacher in (teachers if for_each else [""])
        if stage != "twin" or settings.student.twin
    ]
    before = [step for step in steps if step[0] != "twin"]
    distillation.check()
    with locked(distillation.folder):
        for number, (stage, teacher) in enumerate(before, start=1):
            tell(f"{number}/{len(steps)} {stage}{f' of {teacher}' if teacher else ''}")
            _perform(distillation, tell, stage, teacher)
        rounds = ""
        if settings.rounds is not None and settings.rounds.count:
            rounds = _run_rounds(distillation, tell, settings.rounds) + "\n\n"
        elif log_path(distillation.folder).is_file():
            _log(distillation, [], "none were asked for")
        for number, (stage, teacher) in enumerate(steps[len(before) :], start=len(before) + 1):
            tell(f"{number}/{len(steps)} {stage} of {teacher}, without LES")
            _perform(distillation, tell, stage, teacher)
        results = distillation.results()
        write_json(distillation.folder / "results.json", results)
    return rounds + evaluation.summary(results)


def _run_rounds(
    distillation: Distillation, tell: Callable[[str], None], rounds: RoundSettings
) -> str:
    """Do rounds until the committee agrees or nothing can be labelled; returns their table.

    What they have come to is in ``rounds.json``, which is written after each.
    """
    (teacher,) = distillation.settings.teachers
    base = distillation.folder_of(teacher.name)
    latest = Round(distillation.settings, teacher, base, 0, distillation.force)
    plural = "s" if rounds.count > 1 else ""
    ending = f"ended after {rounds.count} round{plural}, as many as were asked for"
    _logged(distillation, latest, "not ended")
    while latest.number < rounds.count:
        following = replace(latest, number=latest.number + 1)
        for stage in ROUND_STAGES:
            tell(f"round {following.number} of at most {rounds.count}: {stage}")
            _perform(distillation, tell, stage, teacher.name, following.number)
            why = ""
            if stage == "exploration" and not following.found["n_chosen"]:
                why = verdict(following.found, rounds)
            elif stage == "new-labels" and not following.labelled["n_labelled"]:
                why = f"the teacher can label no new frame: {following.labelled['problem']}"
            if why:
                ending = f"ended in round {following.number}: {why}"
                return summary(_logged(distillation, latest, ending), ending)
        latest = following
        _logged(distillation, latest, "not ended")
    return summary(_logged(distillation, latest, ending), ending)


def _logged(distillation: Distillation, latest: Round, ending: str) -> list[dict[str, Any]]:
    """What the table of rounds says, which is written to ``rounds.json``."""
    rows = list(rows_of(latest))
    _log(distillation, rows, ending)
    return rows


def _log(distillation: Distillation, rows: list[dict[str, Any]], ending: str) -> None:
    write_json(log_path(distillation.folder), {"rounds": rows, "ending": ending})


def _perform(
    distillation: Distillation,
    tell: Callable[[str], None],
    stage: str,
    teacher: str,
    number: int = 0,
) -> None:
    """Do a stage, here or with another interpreter."""
    python = distillation.python(stage, teacher)
    if python:
        _elsewhere(distillation, python, stage, teacher, number)
    elif not distillation.perform(stage, teacher, number):
        tell("    is done already")


def _elsewhere(
    distillation: Distillation, python: str, stage: str, teacher: str, number: int
) -> None:
    """Do a stage with another interpreter."""
    command = [
        *(python, "-m", "les", "distill", "stage", str(distillation.source.absolute()), stage),
        *("-o", str(distillation.folder.absolute())),
        *(["--teacher", teacher] if teacher else []),
        *(["--round", str(number)] if number else []),
        *(["--force"] if distillation.force else []),
    ]
    environment = {**os.environ, KEPT: str(distillation.folder.resolve())}
    sys.stderr.flush()
    with child(command, Path.cwd(), environment, sys.stderr) as process:
        code = process.wait()
    if code != 0:
        raise ValueError(f"{stage} with {python} ended with status {code}")
