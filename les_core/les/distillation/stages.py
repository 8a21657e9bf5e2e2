"""The stages of a distillation, each of which leaves files and a record, and is done once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from les.backends import BackendError, get_backend
from les.children import child
from les.data.structure_files import read_structures
from les.distillation import configurations, evaluation, labels, student
from les.distillation.provenance import Record, plain, write_json
from les.distillation.recipe import Settings
from les.distillation.registry import REGISTRY
from les.distillation.selection import select
from les.distillation.settings import TeacherSettings
from les.distillation.split import split
from les.distillation.teachers import load_teacher, missing, provenance_of
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
}

#: Environment variable of processes that :func:`run` starts: the folder that it has locked.
KEPT = "LES_DISTILL_LOCKED"


@dataclass(frozen=True)
class Distillation:
    """A folder and what is to be made in it.

    Attributes:
        settings: what to do.
        folder: where files go; it must be there.
        source: the settings' file, which processes in other environments read again.
        force: make anew what is of other settings.
    """

    settings: Settings
    folder: Path
    source: Path
    force: bool = False

    def perform(self, stage: str, teacher: str = "") -> bool:
        """Do a stage in this process; returns whether there was something to do.

        Args:
            stage: one of :data:`STAGES`.
            teacher: the name of the teacher, of a stage that is done for each.

        Raises:
            BackendError: if the teacher or the student is not installed here.
            ValueError: for a stage that was done with other settings, a stage before it that is
                missing, and whatever is wrong with configurations and labels.
        """
        if STAGES[stage]:
            return bool(getattr(self, f"_{stage}")(self.settings.teacher(teacher)))
        return bool(getattr(self, f"_{stage}")())

    def perform_alone(self, stage: str, teacher: str = "") -> bool:
        """As :meth:`perform`, while no other process works in the folder.

        Of a process that :func:`run` has started, that one keeps all others out.

        Raises:
            OSError: if another process works in the folder; further as :meth:`perform`.
        """
        if os.environ.get(KEPT) == str(self.folder.resolve()):
            return self.perform(stage, teacher)
        with locked(self.folder):
            return self.perform(stage, teacher)

    def check(self) -> None:
        """Refuse at once what would end the run only after hours.

        Raises:
            BackendError: if a teacher or the student is to be here, and is not.
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
        if stage == "labels":
            return self.settings.teacher(teacher).python
        return self.settings.student.python if stage == "evaluation" else ""

    def folder_of(self, teacher: str) -> Path:
        """The folder of all that is of one teacher."""
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
            identity["teacher"] = _described(settings, settings.teachers[0])
        # Without `skip_bad` limits decide whether there is a result, not which.
        limits = asdict(settings.limits) if settings.limits.skip_bad else None
        of_stage = {**identity, "limits": limits}
        record = Record(self.folder / "configurations.json", of_stage, replace=self.force)
        if record.finished:
            return False
        teacher = None
        if plan.dynamics is not None:
            teacher = _load(settings, settings.teachers[0])
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
        given = _made(self.folder / "configurations.xyz", "configurations")
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
        given = _made(self.folder / "chosen.xyz", "selection")
        folder = self.folder_of(teacher.name)
        folder.mkdir(exist_ok=True)
        identity = {
            "structures": checksum(given),
            "teacher": _described(self.settings, teacher),
            "limits": asdict(self.settings.limits),
        }
        record = Record(folder / "labels.json", identity, replace=self.force)
        if record.finished:
            return False
        output = folder / "labels.xyz"
        loaded = _load(self.settings, teacher)
        limits = self.settings.limits
        facts = labels.label(loaded, given, output, limits, name=teacher.name, replace=self.force)
        record.finish([output], **facts)
        journal_path(output).unlink(missing_ok=True)
        return True

    def _split(self, teacher: TeacherSettings) -> bool:
        folder = self.folder_of(teacher.name)
        given = _made(folder / "labels.xyz", "labels")
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
        folder = self.folder_of(teacher.name)
        sets = [_made(folder / f"{name}.xyz", "split") for name in ("train", "valid")]
        config = student.student_config(self.settings)
        identity = {
            "sets": [checksum(path) for path in sets],
            "config": checksum(config),
            "student": _without(asdict(self.settings.student), "config", "python"),
        }
        directory = folder / student.NAME
        path = folder / "training.json"
        record = Record(path, identity, replace=self.force, leftovers=directory)
        if record.finished:
            return False
        job = student.training_job(self.settings.student, config, folder, directory)
        label = f"training on {teacher.name}"
        model = student.train(job, self.settings.student, label)
        record.finish([model], model=os.path.relpath(model, folder))
        return True

    def _evaluation(self, teacher: TeacherSettings) -> bool:
        folder = self.folder_of(teacher.name)
        test = _made(folder / "test.xyz", "split")
        model = self.model(teacher.name)
        identity = {"test": checksum(test), "model": checksum(model)}
        record = Record(folder / "evaluation.json", identity, replace=self.force)
        if record.finished:
            return False
        output = folder / "predictions.xyz"
        facts = evaluation.evaluate(model, self.settings.student, test, output)
        record.finish([output], **facts)
        return True

    def model(self, teacher: str) -> Path:
        """The student of a teacher.

        Raises:
            ValueError: if it has not been trained.
        """
        path = _made(self.folder_of(teacher) / "training.json", "training")
        record = Record(path, _depends_on(path))
        if not record.finished:
            raise ValueError(f"{path} is of a training that has not ended")
        return path.parent / record.facts["model"]

    def results(self) -> dict[str, dict[str, Any]]:
        """What the evaluation has found, by teacher."""
        found = {}
        for teacher in self.settings.teachers:
            path = self.folder_of(teacher.name) / "evaluation.json"
            found[teacher.name] = Record(path, _depends_on(path)).facts
        return found


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
    teachers = [each.name for each in distillation.settings.teachers]
    steps = [
        (stage, teacher)
        for stage, for_each in STAGES.items()
        for teacher in (teachers if for_each else [""])
    ]
    distillation.check()
    with locked(distillation.folder):
        for number, (stage, teacher) in enumerate(steps, start=1):
            tell(f"{number}/{len(steps)} {stage}{f' of {teacher}' if teacher else ''}")
            python = distillation.python(stage, teacher)
            if python:
                _elsewhere(distillation, python, stage, teacher)
            elif not distillation.perform(stage, teacher):
                tell("    is done already")
        results = distillation.results()
        write_json(distillation.folder / "results.json", results)
    return evaluation.summary(results)


def _elsewhere(distillation: Distillation, python: str, stage: str, teacher: str) -> None:
    """Do a stage with another interpreter."""
    command = [
        *(python, "-m", "les", "distill", "stage", str(distillation.source.absolute()), stage),
        *("-o", str(distillation.folder.absolute())),
        *(["--teacher", teacher] if teacher else []),
        *(["--force"] if distillation.force else []),
    ]
    environment = {**os.environ, KEPT: str(distillation.folder.resolve())}
    sys.stderr.flush()
    with child(command, Path.cwd(), environment, sys.stderr) as process:
        code = process.wait()
    if code != 0:
        raise ValueError(f"{stage} with {python} ended with status {code}")


def _load(settings: Settings, teacher: TeacherSettings) -> Any:
    """The teacher; a model file may be named relative to the settings' folder."""
    return load_teacher(_named(settings, teacher), teacher.options)


def _described(settings: Settings, teacher: TeacherSettings) -> dict[str, Any]:
    """A teacher as records compare it: another one may be there under the same name."""
    found = provenance_of(_named(settings, teacher), teacher.options)
    return {**found, "teacher": teacher.teacher}


def _named(settings: Settings, teacher: TeacherSettings) -> str:
    path = settings.path(teacher.teacher)
    return str(path) if path.is_file() else teacher.teacher


def _made(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no {path} yet; the stage {stage} makes it")
    return path


def _depends_on(path: Path) -> dict[str, Any]:
    """What the record of a stage depends on, to read it as it is."""
    import json

    return dict(json.loads(_made(path, path.stem).read_text())["depends_on"])


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
