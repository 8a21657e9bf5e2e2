"""The stages of a distillation, each of which leaves files and a record, and is done once."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from les.backends import BackendError, get_backend
from les.data.structure_files import read_structures
from les.distillation import configurations, labels, student
from les.distillation.provenance import Record, plain
from les.distillation.recipe import Settings
from les.distillation.registry import REGISTRY
from les.distillation.rounds import Round, last_round
from les.distillation.selection import select
from les.distillation.settings import TeacherSettings
from les.distillation.split import split
from les.distillation.students import made
from les.distillation.teachers import described, load, missing
from les.files import checksum
from les.locks import locked
from les.predict.journal import journal_path
from les.spectra.table_journal import table_journal

#: Stages, in their order, and whether each is done for every teacher.
STAGES = {
    "configurations": False,
    "selection": False,
    "labels": True,
    "split": True,
    "training": True,
    "evaluation": True,
    "twin": True,
}

#: Environment variable of processes that ``les.distillation.running.run`` starts: the folder that
#: it has locked.
KEPT = "LES_DISTILL_LOCKED"


@dataclass(frozen=True)
class Distillation:
    """A distillation: its settings, and the folder of its files.

    Attributes:
        settings: the settings of all stages.
        folder: an existing folder for all files.
        source: the settings' file, which processes in other environments read again.
        force: repeat stages that were done with other settings.
    """

    settings: Settings
    folder: Path
    source: Path
    force: bool = False

    def perform(self, stage: str, teacher: str = "", number: int = 0) -> bool:
        """Do a stage in this process; returns whether there was anything to do.

        Args:
            stage: one of :data:`STAGES`, or of the stages of a round.
            teacher: name of the teacher, for a stage that is done for each teacher.
            number: number of the round, from 1 on; 0 for stages before and after all rounds.

        Raises:
            BackendError: if the teacher or the student is not installed here.
            ValueError: for a stage that was done with other settings, an earlier stage that is
                missing, and errors in configurations and labels.
        """
        if number:
            return self._round(self.settings.teacher(teacher), number).perform(stage)
        if STAGES[stage]:
            return bool(getattr(self, f"_{stage}")(self.settings.teacher(teacher)))
        return bool(getattr(self, f"_{stage}")())

    def perform_alone(self, stage: str, teacher: str = "", number: int = 0) -> bool:
        """Do a stage as :meth:`perform`, while no other process works in the folder.

        If ``les.distillation.running.run`` has started this process, it excludes all others.

        Raises:
            OSError: if another process works in the folder; further as :meth:`perform`.
        """
        if os.environ.get(KEPT) == str(self.folder.resolve()):
            return self.perform(stage, teacher, number)
        with locked(self.folder):
            return self.perform(stage, teacher, number)

    def check(self) -> None:
        """Find errors at once that would otherwise end the run after hours.

        Raises:
            BackendError: if a teacher or the student should be installed here, and is not.
            ValueError: for an unknown backend or configuration, and a file that is missing.
        """
        plan = self.settings.configurations
        for name in (*self.settings.start, *plan.files):
            if not self.settings.path(name).is_file():
                raise ValueError(f"{self.settings.path(name)}: there is no such file")
        interpreters = [each.python for each in self.settings.teachers]
        for python in (*interpreters, self.settings.student.python):
            if python and not Path(python).is_file():
                raise BackendError(f"there is no interpreter {python}")
        for teacher in self.settings.teachers:
            if teacher.teacher in REGISTRY and not teacher.python:
                problem = missing(teacher.teacher)
                if problem is not None:
                    raise BackendError(problem)
        backend = get_backend(self.settings.student.backend)
        student.student_config(self.settings)
        if not self.settings.student.python:
            backend.require()

    def python(self, stage: str, teacher: str = "") -> str:
        """The interpreter of the environment that a stage needs; empty for this one."""
        if stage == "configurations" and self.settings.configurations.dynamics is not None:
            return self.settings.teachers[0].python
        if stage in ("labels", "new-labels"):
            return self.settings.teacher(teacher).python
        of_student = ("evaluation", "twin", "exploration", "new-evaluation")
        return self.settings.student.python if stage in of_student else ""

    def folder_of(self, teacher: str) -> Path:
        """The folder of all files of one teacher."""
        return self.folder / teacher

    def _configurations(self) -> bool:
        settings = self.settings
        plan = settings.configurations
        files = [settings.path(name) for name in (*settings.start, *plan.files)]
        identity: dict[str, Any] = {
            "files": [checksum(path) for path in files],
            "configurations": {**asdict(plan), "files": len(plan.files)},
            "seed": settings.seed,
        }
        if plan.dynamics is not None:
            identity["teacher"] = described(settings, settings.teachers[0])
        # Without `skip_bad` limits decide whether there is a result, not which.
        limits = asdict(settings.limits) if settings.limits.skip_bad else None
        of_stage = {**identity, "limits": limits}
        record = Record(self.folder / "configurations.json", of_stage, replace=self.force)
        if record.finished:
            return False
        teacher = None
        if plan.dynamics is not None:
            teacher = load(settings, settings.teachers[0])
        output = self.folder / "configurations.xyz"
        with table_journal(output, plain(identity), self.force) as journal:
            facts = configurations.make(settings, teacher, journal, output)
        record.finish(
            [output],
            **facts,
            sources=[str(path) for path in files],
            teacher=None if teacher is None else teacher.provenance,
        )
        journal_path(output).unlink(missing_ok=True)
        return True

    def _selection(self) -> bool:
        given = made(self.folder / "configurations.xyz", "configurations")
        identity = {
            "configurations": checksum(given),
            "selection": asdict(self.settings.selection),
            "seed": self.settings.seed,
        }
        record = Record(self.folder / "selection.json", identity, replace=self.force)
        if record.finished:
            return False
        structures = [atoms for _, atoms in read_structures(given)]
        chosen = select(structures, self.settings.selection, self.settings.seed)
        (output,) = student.write_sets(structures, {"chosen": chosen}, self.folder)
        record.finish([output], chosen=chosen, of=len(structures))
        return True

    def _labels(self, teacher: TeacherSettings) -> bool:
        given = made(self.folder / "chosen.xyz", "selection")
        folder = self.folder_of(teacher.name)
        folder.mkdir(exist_ok=True)
        identity = {
            "structures": checksum(given),
            "teacher": described(self.settings, teacher),
            "limits": asdict(self.settings.limits),
        }
        record = Record(folder / "labels.json", identity, replace=self.force)
        if record.finished:
            return False
        output = folder / "labels.xyz"
        loaded = load(self.settings, teacher)
        limits = self.settings.limits
        facts = labels.label(loaded, given, output, limits, name=teacher.name, replace=self.force)
        record.finish([output], **facts)
        journal_path(output).unlink(missing_ok=True)
        return True

    def _split(self, teacher: TeacherSettings) -> bool:
        folder = self.folder_of(teacher.name)
        given = made(folder / "labels.xyz", "labels")
        identity = {
            "labels": checksum(given),
            "split": asdict(self.settings.split),
            "seed": self.settings.seed,
        }
        record = Record(folder / "split.json", identity, replace=self.force)
        if record.finished:
            return False
        structures = [atoms for _, atoms in read_structures(given)]
        sets, left_out = split(structures, self.settings.split, self.settings.seed)
        paths = student.write_sets(structures, sets, folder)
        counts = {name: len(numbers) for name, numbers in sets.items()}
        record.finish(paths, counts=counts, left_out_between_sets=left_out)
        return True

    def _training(self, teacher: TeacherSettings) -> bool:
        return self._round(teacher, 0).student.train(f"training on {teacher.name}")

    def _evaluation(self, teacher: TeacherSettings) -> bool:
        folder = self.folder_of(teacher.name)
        test = made(folder / "test.xyz", "split")
        return self._round(teacher, 0).student.evaluate(test, folder)

    def _twin(self, teacher: TeacherSettings) -> bool:
        """The student without LES, on the sets of the last round."""
        folder = self.folder_of(teacher.name)
        latest = last_round(self.settings, teacher, folder)
        twin = replace(latest, force=self.force).twin
        done = [twin.train(f"twin without LES of {teacher.name}")]
        done.append(twin.evaluate(made(folder / "test.xyz", "split"), latest.folder))
        return any(done)

    def _round(self, teacher: TeacherSettings, number: int) -> Round:
        return Round(self.settings, teacher, self.folder_of(teacher.name), number, self.force)

    def last(self, teacher: str) -> Round:
        """The last round of a teacher; without rounds, the state before the first one."""
        settings = self.settings.teacher(teacher)
        return last_round(self.settings, settings, self.folder_of(teacher))

    def model(self, teacher: str) -> Path:
        """The student of a teacher, after the last round.

        Raises:
            ValueError: if it has not been trained.
        """
        return self.last(teacher).student.model

    def results(self) -> dict[str, dict[str, Any]]:
        """Results of the evaluation of the last students, by teacher."""
        found = {}
        for teacher in self.settings.teachers:
            latest = self.last(teacher.name)
            found[teacher.name] = latest.student.errors(latest.folder)
            if self.settings.student.twin:
                found[f"{teacher.name}, without LES"] = latest.twin.errors(latest.folder)
        return found
