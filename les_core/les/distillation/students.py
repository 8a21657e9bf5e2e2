"""Students: their training on sets of structures and their errors, each of which is done once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from les.distillation import evaluation, student
from les.distillation.provenance import Record
from les.distillation.recipe import Settings
from les.distillation.settings import StudentSettings
from les.distillation.student import NAME
from les.files import checksum


@dataclass(frozen=True)
class Student:
    """One student, in a folder with the sets that it is trained on.

    Attributes:
        settings: those of the whole distillation, which say where its configuration is.
        student: what is trained.
        folder: has ``train.xyz`` and ``valid.xyz``; training and records go there.
        name: of the folder of its training. Records of another than ``student`` begin with it.
        force: make anew what is of other settings.
    """

    settings: Settings
    student: StudentSettings
    folder: Path
    name: str = NAME
    force: bool = False

    @property
    def _prefix(self) -> str:
        return "" if self.name == NAME else f"{self.name}-"

    @property
    def record(self) -> Path:
        """The record of its training."""
        return self.folder / f"{self._prefix}training.json"

    def train(self, label: str) -> bool:
        """Train it; returns whether there was something to do.

        Args:
            label: what the progress bar says.

        Raises:
            ValueError: if a set is missing, the training fails, or it was trained otherwise before.
        """
        sets = [made(self.folder / f"{name}.xyz", "split") for name in ("train", "valid")]
        config = student.student_config(self.settings)
        identity = {
            "sets": [checksum(path) for path in sets],
            "config": checksum(config),
            "student": _without(asdict(self.student), "config", "python", "twin"),
        }
        directory = self.folder / self.name
        record = Record(self.record, identity, replace=self.force, leftovers=directory)
        if record.finished:
            return False
        job = student.training_job(self.student, config, self.folder, directory)
        model = student.train(job, self.student, label)
        record.finish([model], model=os.path.relpath(model, self.folder))
        return True

    @property
    def model(self) -> Path:
        """The file of the trained model.

        Raises:
            ValueError: if it has not been trained.
        """
        path = made(self.record, "training")
        record = Record(path, depends_on(path))
        if not record.finished:
            raise ValueError(f"{path} is of a training that has not ended")
        return self.folder / record.facts["model"]

    def evaluate(self, structures: Path, folder: Path, name: str = "predictions") -> bool:
        """Evaluate it on labelled structures; returns whether there was something to do.

        Args:
            structures: the file.
            folder: where the predictions and their record go.
            name: of the predictions; those of the test set are ``predictions``, and their record
                is ``evaluation``.

        Raises:
            ValueError: as :attr:`model`, and if other structures were evaluated before.
        """
        identity = {"test": checksum(structures), "model": checksum(self.model)}
        record = Record(self._evaluation(folder, name), identity, replace=self.force)
        if record.finished:
            return False
        output = folder / f"{self._prefix}{name}.xyz"
        facts = evaluation.evaluate(self.model, self.student, structures, output)
        record.finish([output], **facts)
        return True

    def errors(self, folder: Path, name: str = "predictions") -> dict[str, Any]:
        """What :meth:`evaluate` has found, with the same ``folder`` and ``name``."""
        return facts_of(self._evaluation(folder, name))

    def _evaluation(self, folder: Path, name: str) -> Path:
        record = "evaluation" if name == "predictions" else name
        return folder / f"{self._prefix}{record}.json"


def made(path: Path, stage: str) -> Path:
    """The path of what a stage before has made.

    Raises:
        ValueError: naming the stage, if it is not there.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path} yet; the stage {stage} makes it")
    return path


def depends_on(path: Path) -> dict[str, Any]:
    """What the record of a stage depends on, to read it as it is."""
    return dict(json.loads(made(path, path.stem).read_text())["depends_on"])


def facts_of(path: Path) -> dict[str, Any]:
    """What a stage that has ended has noted in its record."""
    return Record(path, depends_on(path)).facts


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
