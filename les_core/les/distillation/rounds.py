"""Rounds of active learning: a committee finds what it does not know, and the teacher tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from les.backends import get_backend
from les.backends.loading import load_calculator
from les.data.structure_files import read_structures
from les.distillation import labels, student
from les.distillation.exploration import explore
from les.distillation.provenance import Record
from les.distillation.recipe import Settings
from les.distillation.settings import RoundSettings, TeacherSettings
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
        base: the folder of all that is of the teacher.
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
    def found(self) -> dict[str, Any]:
        """What the exploration has found."""
        return facts_of(self.folder / "exploration.json")

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
        facts = labels.label(loaded, given, output, limits, name=name, replace=self.force)
        record.finish([output], **facts)
        journal_path(output).unlink(missing_ok=True)
        return True

    def _new_sets(self) -> bool:
        """The sets of the round before with what is new, of which a share is for validation."""
        given = made(self.folder / "labels.xyz", "new-labels")
        before = {name: self.before.folder / f"{name}.xyz" for name in ("train", "valid")}
        identity = {
            "labels": checksum(given),
            "sets": {name: checksum(path) for name, path in before.items()},
            "valid": self.settings.split.valid,
            "seed": self.settings.seed,
        }
        record = Record(self.folder / "sets.json", identity, replace=self.force)
        if record.finished:
            return False
        new = [atoms for _, atoms in read_structures(given)]
        generator = np.random.default_rng((self.settings.seed, self.number))
        n_valid = min(round(self.settings.split.valid * len(new)), len(new) - 1)
        order = [int(n) for n in generator.permutation(len(new))]
        shares = {"valid": sorted(order[:n_valid]), "train": sorted(order[n_valid:])}
        paths, counts = [], {}
        for name, path in before.items():
            structures = [atoms for _, atoms in read_structures(path)]
            structures += [new[n] for n in shares[name]]
            everything = list(range(len(structures)))
            paths += student.write_sets(structures, {name: everything}, self.folder)
            counts[name] = len(structures)
        record.finish(paths, counts=counts)
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
            record = facts_of(self.folder / "labels.json")
            before = self.before.student.errors(self.folder, "before")
            row |= {
                "exploration": self.found,
                "n_labelled": record["n_labelled"],
                "errors_before_on_new": before["errors"],
            }
        sets = "sets.json" if self.number else "split.json"
        row["n_train"] = facts_of(self.folder / sets)["counts"]["train"]
        return row


def last_round(settings: Settings, teacher: TeacherSettings, base: Path) -> Round:
    """The last round that has ended in the folder ``base`` of a teacher; 0 without any."""
    latest = Round(settings, teacher, base, 0)
    while True:
        following = replace(latest, number=latest.number + 1)
        path = following.folder / "evaluation.json"
        if not path.is_file() or not Record(path, depends_on(path)).finished:
            return latest
        latest = following
