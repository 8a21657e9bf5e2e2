"""Rounds of active learning: a committee finds what it does not know, and the teacher tells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from les.backends import get_backend
from les.backends.loading import load_calculator
from les.data.structure_files import read_structures
from les.distillation import labels, student
from les.distillation.exploration import explore
from les.distillation.provenance import Record
from les.distillation.recipe import Settings
from les.distillation.settings import RoundSettings, TeacherSettings
from les.distillation.split import split
from les.distillation.students import Student, depends_on, facts_of, made
from les.distillation.teachers import described, load
from les.files import checksum
from les.predict.journal import journal_path

#: Stages of a round, in their order.
STAGES = ("committee", "exploration", "new-labels", "new-sets", "retraining", "new-evaluation")


@dataclass(frozen=True)
class Round:
    """One round, in a folder of its own.

    Attributes:
        settings: those of the whole distillation.
        teacher: who labels.
        base: the teacher's folder, which has all rounds.
        number: 1, 2, ...; 0 is what was before the first round.
        force: make anew what is of other settings.
    """

    settings: Settings
    teacher: TeacherSettings
    base: Path
    number: int
    force: bool = False

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.base / f"round-{self.number}" if self.number else self.base

    @property
    def before(self) -> Round:
        """The round before."""
        return replace(self, number=self.number - 1)

    @property
    def student(self) -> Student:
        """The student that is trained with the labels of this round."""
        return Student(self.settings, self.settings.student, self.folder, force=self.force)

    @property
    def twin(self) -> Student:
        """The student without LES that is trained on the same sets."""
        without = replace(self.settings.student, les=False, twin=False)
        return Student(self.settings, without, self.folder, "twin", self.force)

    @property
    def members(self) -> list[Student]:
        """The committee: the student, and others that differ by their seed."""
        seed = self.settings.student.seed
        others = [
            replace(self.student, student=replace(self.settings.student, seed=seed + n), name=name)
            for n, name in enumerate(
                [f"member-{n + 2}" for n in range(self._rounds.members - 1)], start=1
            )
        ]
        return [self.student, *others]

    @property
    def _rounds(self) -> RoundSettings:
        return self.settings.rounds or RoundSettings()

    def perform(self, stage: str) -> bool:
        """Do one of :data:`STAGES`; returns whether there was something to do.

        Raises:
            BackendError, ValueError: as ``les.distillation.stages.Distillation.perform``.
        """
        self.folder.mkdir(exist_ok=True)
        return bool(getattr(self, "_" + stage.replace("-", "_"))())

    @property
    def sets(self) -> dict[str, str]:
        """Checksums of what its student is trained on."""
        names = ("train", "valid")
        return {name: checksum(made(self.folder / f"{name}.xyz", "split")) for name in names}

    @property
    def found(self) -> dict[str, Any]:
        """What the exploration has found."""
        return facts_of(self.folder / "exploration.json")

    @property
    def labelled(self) -> dict[str, Any]:
        """What the labels of its frames have come to."""
        return facts_of(self.folder / "labels.json")

    def _committee(self) -> bool:
        trained = [
            member.train(f"{member.name} of round {self.number - 1}")
            for member in self.before.members
        ]
        return any(trained)

    def _exploration(self) -> bool:
        models = [member.model for member in self.before.members]
        members = [checksum(model) for model in models]
        identity = {
            "members": members,
            "starts": [checksum(self.settings.path(name)) for name in self.settings.start],
            "rounds": {**asdict(self._rounds), "count": None},
            "limits": asdict(self.settings.limits),
            "cutoff": self.settings.selection.cutoff,
            "seed": self.settings.seed,
        }
        record = Record(self.folder / "exploration.json", identity, replace=self.force)
        if record.finished:
            return False
        output = self.folder / "explored.xyz"
        rounds, number = self._rounds, self.number
        committee = self._calculator(models)
        facts = explore(committee, members, self.settings, rounds, number, output, self.force)
        record.finish([output] if facts["n_chosen"] else [], **facts)
        journal_path(output).unlink(missing_ok=True)
        return True

    def _calculator(self, models: list[Path]) -> Any:
        from les.backends.committee import Committee

        backend = get_backend(self.settings.student.backend)
        device = self.settings.student.device
        # Pickles, if they are any, were written by this very run.
        calculators = [
            load_calculator(backend, model, device=device, allow_pickle=True) for model in models
        ]
        return Committee(calculators, names=[str(model) for model in models])

    def _new_labels(self) -> bool:
        """The teacher's labels; a round of which it can label nothing has none, and is the last."""
        given = made(self.folder / "explored.xyz", "exploration")
        # What a student's dynamics comes to may be nothing that a teacher can label.
        limits = replace(self.settings.limits, skip_bad=True)
        identity = {
            "structures": checksum(given),
            "teacher": described(self.settings, self.teacher),
            "limits": asdict(limits),
        }
        record = Record(self.folder / "labels.json", identity, replace=self.force)
        if record.finished:
            return False
        output = self.folder / "labels.xyz"
        loaded = load(self.settings, self.teacher)
        name = self.teacher.name
        try:
            facts = labels.label(loaded, given, output, limits, name=name, replace=self.force)
        except labels.NothingLabelledError as error:
            output.unlink(missing_ok=True)
            record.finish([], n_labelled=0, problem=str(error))
        else:
            record.finish([output], **facts)
        journal_path(output).unlink(missing_ok=True)
        return True

    def _new_sets(self) -> bool:
        """The sets of the round before with what is new, of which blocks are for validation."""
        given = made(self.folder / "labels.xyz", "new-labels")
        identity = {
            "labels": checksum(given),
            "sets": self.before.sets,
            "split": asdict(self.settings.split),
            "seed": self.settings.seed,
        }
        record = Record(self.folder / "sets.json", identity, replace=self.force)
        if record.finished:
            return False
        new = [atoms for _, atoms in read_structures(given)]
        seed = (self.settings.seed, self.number)
        shares, left_out = split(new, self.settings.split, seed, further=True)
        paths, counts = [], {}
        for name in ("train", "valid"):
            before = self.before.folder / f"{name}.xyz"
            structures = [atoms for _, atoms in read_structures(before)]
            structures += [new[n] for n in shares[name]]
            everything = list(range(len(structures)))
            paths += student.write_sets(structures, {name: everything}, self.folder)
            counts[name] = len(structures)
        record.finish(paths, counts=counts, left_out_between_sets=left_out)
        return True

    def _retraining(self) -> bool:
        return self.student.train(f"training of round {self.number}")

    def _new_evaluation(self) -> bool:
        """Errors on the test set, and those that the student before makes on what is new."""
        new = made(self.folder / "labels.xyz", "new-labels")
        test = made(self.base / "test.xyz", "split")
        done = [
            self.before.student.evaluate(new, self.folder, "before"),
            self.student.evaluate(test, self.folder),
        ]
        return any(done)

    @property
    def table_row(self) -> dict[str, Any]:
        """What the table of rounds says of this one."""
        errors = self.student.errors(self.folder)
        row: dict[str, Any] = {"round": self.number, "errors": errors["errors"]}
        if self.number:
            before = self.before.student.errors(self.folder, "before")
            row |= {
                "exploration": self.found,
                "n_labelled": self.labelled["n_labelled"],
                "errors_before_on_new": before["errors"],
            }
        sets = "sets.json" if self.number else "split.json"
        row["n_train"] = facts_of(self.folder / sets)["counts"]["train"]
        return row


def last_round(settings: Settings, teacher: TeacherSettings, base: Path) -> Round:
    """The last round that has ended in the folder ``base`` of a teacher; 0 without any.

    Rounds of an earlier run may be there: none counts that the latest run, where there is one, has
    not come to, nor one whose sets do not follow from those of the round before.
    """
    latest = Round(settings, teacher, base, 0)
    log = log_path(base.parent)
    most = len(json.loads(log.read_text())["rounds"]) - 1 if log.is_file() else None
    while most is None or latest.number < most:
        following = replace(latest, number=latest.number + 1)
        path = following.folder / "evaluation.json"
        if not path.is_file() or not Record(path, depends_on(path)).finished:
            break
        sets = made(following.folder / "sets.json", "new-sets")
        if depends_on(sets)["sets"] != latest.sets:
            break
        latest = following
    return latest


def log_path(folder: Path) -> Path:
    """The file that says what rounds the latest run in a folder has come to."""
    return folder / "rounds.json"
