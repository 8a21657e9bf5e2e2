"""Parts of the settings of a distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from les.distillation.checks import (
    check_numbers,
    check_options,
    check_positive,
    check_text,
    check_whole,
    optional_part,
    texts,
)
from les.ranges import is_number


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher, and its environment.

    Attributes:
        teacher: a name of ``les.distillation.teachers.REGISTRY``, ``module:callable``, or a model
            file.
        name: name of the files of this teacher; the default is derived from ``teacher``.
        python: interpreter of the environment of the teacher; empty for this environment.
        options: keyword arguments of its calculator.
    """

    teacher: str
    name: str = ""
    python: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text("teacher", self.teacher)
        for name in ("name", "python"):
            check_text(name, getattr(self, name), empty=True)
        check_options("options", self.options)
        plain = Path(self.teacher).name.replace(":", "-")
        object.__setattr__(self, "name", self.name or plain)
        if not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ValueError(f"`name` must be letters, digits, '-', '_' and '.', got {self.name!r}")


@dataclass(frozen=True)
class RattleSettings:
    """Random displacements of the atoms of every starting structure.

    Attributes:
        amplitudes: standard deviations of the displacements along each axis [A].
        count: number of structures for each amplitude.
    """

    amplitudes: tuple[float, ...] = (0.02, 0.1)
    count: int = 10

    def __post_init__(self) -> None:
        check_numbers(self, "amplitudes", 0.0)
        check_whole("count", self.count, 1)


@dataclass(frozen=True)
class DynamicsSettings:
    """Molecular dynamics of the first teacher, with a Langevin thermostat.

    Attributes:
        temperatures: temperatures [K]; there is one trajectory for each, and each of the
            ``densities``.
        densities: densities as multiples of that of the starting structure, whose molecules are
            moved as a whole. Open structures allow only ``1``.
        steps: length of each trajectory, after ``equilibration``, a multiple of ``every`` [steps].
        equilibration: steps before the first frame that is kept.
        every: number of steps from frame to frame.
        timestep: length of a step [fs].
        friction: friction of the thermostat [1/fs].
    """

    temperatures: tuple[float, ...] = (300.0,)
    densities: tuple[float, ...] = (1.0,)
    steps: int = 1000
    equilibration: int = 100
    every: int = 50
    timestep: float = 0.5
    friction: float = 0.01

    def __post_init__(self) -> None:
        check_numbers(self, "temperatures", 0.0)
        check_numbers(self, "densities", 0.0)
        check_whole("every", self.every, 1)
        check_whole("steps", self.steps, self.every)
        if self.steps % self.every != 0:
            raise ValueError(
                f"`steps` must be a multiple of `every` ({self.every}), got {self.steps}"
            )
        check_whole("equilibration", self.equilibration, 0)
        check_positive("timestep", self.timestep)
        check_positive("friction", self.friction)

    @property
    def n_frames(self) -> int:
        """Number of frames of each trajectory."""
        return self.steps // self.every


@dataclass(frozen=True)
class ScanSettings:
    """Pairs of molecules of the starting structures, in open space, at growing distance.

    Attributes:
        distances: smallest distances between atoms of the two molecules [A].
        orientations: number of scans of each pair of kinds of molecules.
    """

    distances: tuple[float, ...] = (1.8, 2.2, 2.7, 3.3, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0)
    orientations: int = 2

    def __post_init__(self) -> None:
        check_numbers(self, "distances", 0.0)
        check_whole("orientations", self.orientations, 1)


@dataclass(frozen=True)
class RoundSettings:
    """Active learning: dynamics of a committee of students, whose frames the teacher labels.

    Attributes:
        count: largest number of rounds.
        members: number of members of the committee, which differ by the seeds of their training.
        spread: deviation of the members' forces on an atom above which a frame is labelled [eV/A];
            rounds end if no frame is above it.
        frames: largest number of frames that are labelled in a round.
        gap: frames of a trajectory that are left out between two that are labelled.
        dynamics: dynamics of the committee, from all starting structures.
    """

    count: int = 1
    members: int = 2
    spread: float = 0.2
    frames: int = 20
    gap: int = 1
    dynamics: DynamicsSettings = field(default_factory=DynamicsSettings)

    def __post_init__(self) -> None:
        check_whole("count", self.count, 0)
        check_whole("members", self.members, 2)
        check_positive("spread", self.spread)
        check_whole("frames", self.frames, 2)
        check_whole("gap", self.gap, 0)
        made = optional_part(DynamicsSettings, "dynamics", self.dynamics)
        object.__setattr__(self, "dynamics", made or DynamicsSettings())


@dataclass(frozen=True)
class ConfigurationSettings:
    """Sources of configurations, of which at least one is needed.

    Attributes:
        files: the user's own structures, which are used as they are. ``trajectory`` and ``frame``
            in the ``info`` of a structure give its position in time; without them, successive
            structures of a file count as neighbours in time.
        rattles: displaced starting structures.
        dynamics: molecular dynamics.
        scans: pairs of molecules.
    """

    files: tuple[str, ...] = ()
    rattles: RattleSettings | None = None
    dynamics: DynamicsSettings | None = None
    scans: ScanSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", texts("files", self.files))
        for name, kind in (
            ("rattles", RattleSettings),
            ("dynamics", DynamicsSettings),
            ("scans", ScanSettings),
        ):
            object.__setattr__(self, name, optional_part(kind, name, getattr(self, name)))
        if not any((self.files, self.rattles, self.dynamics, self.scans)):
            raise ValueError("must have at least one of files, rattles, dynamics and scans")

    @property
    def needs_start(self) -> bool:
        """Whether configurations are made of starting structures."""
        return any((self.rattles, self.dynamics, self.scans))


@dataclass(frozen=True)
class SelectionSettings:
    """The configurations that are labelled.

    Attributes:
        count: number of configurations, chosen far from one another; ``None`` for all. Scans are
            all kept and not counted.
        cutoff: longest distance between atoms that the choice considers [A].
    """

    count: int | None = None
    cutoff: float = 6.0

    def __post_init__(self) -> None:
        if self.count is not None:
            check_whole("count", self.count, 3)
        check_positive("cutoff", self.cutoff)


@dataclass(frozen=True)
class LimitSettings:
    """Limits of configurations and labels; values beyond them are errors.

    Attributes:
        force: largest force on an atom [eV/A].
        energy: largest energy above the lowest of its composition [eV/atom].
        closeness: smallest distance of two atoms, as a share of the sum of their covalent radii.
        skip_bad: leave out configurations beyond the limits, or that the teacher cannot label,
            rather than ending with the first.
    """

    force: float = 50.0
    energy: float = 3.0
    closeness: float = 0.6
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for name in ("force", "energy", "closeness"):
            check_positive(name, getattr(self, name))
        if not isinstance(self.skip_bad, bool):
            raise ValueError(f"`skip_bad` must be true or false, got {self.skip_bad!r}")


@dataclass(frozen=True)
class SplitSettings:
    """The division of labelled configurations into sets.

    Attributes:
        valid, test: shares of the configurations.
        block: number of successive frames of a trajectory or file that stay together.
        gap: frames of a trajectory that are left out between sets.
    """

    valid: float = 0.1
    test: float = 0.1
    block: int = 5
    gap: int = 1

    def __post_init__(self) -> None:
        for name in ("valid", "test"):
            share = getattr(self, name)
            if not (is_number(share) and 0.0 < share < 0.5):
                raise ValueError(f"`{name}` must be a share between 0 and 0.5, got {share!r}")
        check_whole("block", self.block, 1)
        check_whole("gap", self.gap, 0)
        if self.block <= 2 * self.gap:
            raise ValueError(
                f"`block` must be more than twice `gap`, or nothing is left between two sets, got "
                f"{self.block} and {self.gap}"
            )


@dataclass(frozen=True)
class StudentSettings:
    """The model that learns.

    Attributes:
        backend: name of a backend.
        config: a training configuration in upstream's own format: a file, or ``MODEL/SYSTEM`` of
            ``les config list``.
        les: whether the student has LES.
        twin: whether a second student without LES is trained, on the same sets with the same seed.
        epochs: number of epochs; the default is that of the configuration.
        seed: seed of the training.
        options: further options of ``les train``, which are passed unchanged.
        device: device of the training.
        python: interpreter of the environment of the backend; empty for this environment.
    """

    backend: str
    config: str
    les: bool = True
    twin: bool = False
    epochs: int | None = None
    seed: int = 1
    options: tuple[str, ...] = ()
    device: str = "cpu"
    python: str = ""

    def __post_init__(self) -> None:
        for name in ("backend", "config", "device"):
            check_text(name, getattr(self, name))
        check_text("python", self.python, empty=True)
        for name in ("les", "twin"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be true or false, got {getattr(self, name)!r}")
        if self.twin and not self.les:
            raise ValueError("`twin` is a student without LES beside one with it: leave out `les`")
        if self.epochs is not None:
            check_whole("epochs", self.epochs, 1)
        check_whole("seed", self.seed, 0)
        object.__setattr__(self, "options", texts("options", self.options))
