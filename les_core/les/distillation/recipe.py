"""All settings of a distillation, read from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from les.config_files import read_yaml
from les.distillation.checks import check_whole, part, texts
from les.distillation.settings import (
    ConfigurationSettings,
    LimitSettings,
    RoundSettings,
    SelectionSettings,
    SplitSettings,
    StudentSettings,
    TeacherSettings,
)
from les.keys import refuse_unknown


@dataclass(frozen=True)
class Settings:
    """All settings of a distillation.

    Attributes:
        teachers: the teachers, which label; the first one runs the dynamics.
        configurations: the sources of configurations.
        student: the model that learns.
        start: files with starting structures.
        seed: seed of all random choices except those of the training.
        selection, limits, split: see the classes.
        rounds: rounds of active learning; ``None`` without any.
        folder: folder to which relative names of files refer.
    """

    teachers: tuple[TeacherSettings, ...]
    configurations: ConfigurationSettings
    student: StudentSettings
    start: tuple[str, ...] = ()
    seed: int = 0
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    rounds: RoundSettings | None = None
    folder: Path = Path()

    @classmethod
    def from_yaml(cls, path: Path) -> Settings:
        """Read the settings from a file.

        Raises:
            OSError: if it cannot be read.
            ValueError: naming the file, the key, what was expected and what came.
        """
        try:
            return cls.from_mapping(read_yaml(path), path.resolve().parent)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], folder: Path = Path()) -> Settings:
        """Read the settings from a mapping; errors are as for :meth:`from_yaml`."""
        refuse_unknown(values, [each.name for each in fields(cls) if each.name != "folder"])
        for name in ("teachers", "configurations", "student"):
            if name not in values:
                raise ValueError(f"has no `{name}`")
        teachers = values["teachers"]
        if not isinstance(teachers, list) or not teachers:
            raise ValueError(f"`teachers` must be a list of teachers, got {teachers!r}")
        made = tuple(
            part(TeacherSettings, "teachers", {"teacher": x} if isinstance(x, str) else x)
            for x in teachers
        )
        names = [each.name for each in made]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two teachers have the name {name!r}; give one another `name`")
        plan = part(ConfigurationSettings, "configurations", values["configurations"])
        start = texts("start", values.get("start", ()))
        if plan.needs_start and not start:
            raise ValueError("rattles, dynamics and scans need `start`, files of structures")
        if start and not plan.needs_start and values.get("rounds") is None:
            raise ValueError("`start` has no effect without rattles, dynamics, scans and rounds")
        seed = values.get("seed", 0)
        check_whole("seed", seed, 0)
        kinds = {
            "selection": SelectionSettings,
            "limits": LimitSettings,
            "split": SplitSettings,
            "rounds": RoundSettings,
        }
        others: dict[str, Any] = {
            name: part(kind, name, values[name])
            for name, kind in kinds.items()
            if values.get(name) is not None
        }
        if values.get("rounds") is not None:
            check_rounds(made, start)
        return cls(
            teachers=made,
            configurations=plan,
            student=part(StudentSettings, "student", values["student"]),
            start=start,
            seed=seed,
            folder=folder,
            **others,
        )

    def with_rounds(self, count: int) -> Settings:
        """The same settings with another number of rounds.

        Raises:
            ValueError: for several teachers, and without ``start``.
        """
        check_whole("--rounds", count, 0)
        if count:
            check_rounds(self.teachers, self.start)
        return replace(self, rounds=replace(self.rounds or RoundSettings(), count=count))

    def path(self, name: str) -> Path:
        """Path of a file that the settings name; relative names refer to the settings' folder."""
        return self.folder / Path(name).expanduser()

    def teacher(self, name: str) -> TeacherSettings:
        """The teacher with this name.

        Raises:
            ValueError: if there is none.
        """
        for each in self.teachers:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.teachers)
        raise ValueError(f"no teacher {name!r} (known: {known})")


def check_rounds(teachers: tuple[TeacherSettings, ...], start: tuple[str, ...]) -> None:
    """Refuse rounds of several teachers, whose students would choose other configurations.

    Raises:
        ValueError: for these, and where there is no structure to start dynamics from.
    """
    if len(teachers) != 1:
        raise ValueError(
            f"rounds are of one teacher, got {len(teachers)}: each student would choose "
            "configurations of its own; give each teacher a file of settings"
        )
    if not start:
        raise ValueError("rounds need `start`, files of structures from which students move")
