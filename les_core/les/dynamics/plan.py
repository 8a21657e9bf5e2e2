"""What a run of molecular dynamics consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from les.dynamics.ensemble import Ensemble
from les.ranges import is_number


@dataclass(frozen=True)
class Plan:
    """What is run, and what is kept of it.

    Attributes:
        ensemble: how the atoms are moved.
        n_steps: where the run ends, from its very beginning; a whole number of intervals.
        every: steps from one frame that is written to the next.
        seed: of velocities that are drawn, of the thermostat and of the barostat.
        temperature: of velocities that are drawn [K]; by default that of the thermostat.

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
        """The temperature of velocities that are drawn [K]; ``None`` where none can be."""
        return self.ensemble.temperature if self.temperature is None else self.temperature

    def identity(self) -> dict[str, Any]:
        """What a run that goes on must not change: all but its length."""
        own = asdict(self)
        return {**own.pop("ensemble"), "first temperature": own["temperature"]} | {
            name: own[name] for name in ("every", "seed")
        }
