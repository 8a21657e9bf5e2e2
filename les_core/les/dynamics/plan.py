"""What a run of molecular dynamics consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from les.dynamics.ensemble import Ensemble
from les.ranges import is_number


@dataclass(frozen=True)
class Plan:
    """The ensemble, the length and the output of a run.

    Attributes:
        ensemble: the ensemble that moves the atoms.
        n_steps: number of steps from the very beginning of the run, a multiple of ``every``.
        every: number of steps from one written frame to the next.
        seed: seed of random velocities, of the thermostat and of the barostat.
        temperature: temperature of random velocities [K]; the default is that of the thermostat.

    Raises:
        ValueError: for numbers that are not whole and positive, and steps that end between two
            frames.
    """

    ensemble: Ensemble
    n_steps: int
    every: int = 100
    seed: int = 0
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("n_steps", 1), ("every", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"`{name}` must be a whole number from {least} on, got {value!r}")
        if self.n_steps % self.every:
            raise ValueError(
                f"the number of steps must be a multiple of `every` = {self.every}, from one frame "
                f"to the next (--every), got {self.n_steps}"
            )
        given = self.temperature
        if given is not None and not (is_number(given) and given > 0):
            raise ValueError(f"`temperature` must be a positive number, got {given!r}")

    @property
    def first_temperature(self) -> float | None:
        """The temperature of random velocities [K]; ``None`` if none can be drawn."""
        return self.ensemble.temperature if self.temperature is None else self.temperature

    def identity(self) -> dict[str, Any]:
        """The settings that must not change when a run is continued: all except its length."""
        own = asdict(self)
        return {**own.pop("ensemble"), "first temperature": own["temperature"]} | {
            name: own[name] for name in ("every", "seed")
        }
