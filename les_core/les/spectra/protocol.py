"""What a run of molecular dynamics for a spectrum consists of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from les.ranges import is_number


@dataclass(frozen=True)
class Protocol:
    """What is run.

    Attributes:
        temperature: of the thermostat [K].
        equilibration: length of the first part [ps].
        production: length of the second part [ps], which the spectrum is made of.
        timestep: [fs].
        every: steps from one current to the next.
        friction: of the thermostat [1/fs].
        seed: of the velocities at the beginning, and of the thermostat.
        keep_every: currents from one kept state of all atoms to the next, where a run that was
            killed goes on.

    Raises:
        ValueError: for numbers that are not positive, or not whole where they have to be, and a
            second part without two currents.
    """

    temperature: float = 300.0
    equilibration: float = 5.0
    production: float = 20.0
    timestep: float = 0.5
    every: int = 4
    friction: float = 0.01
    seed: int = 0
    keep_every: int = 10

    def __post_init__(self) -> None:
        for name in ("temperature", "production", "timestep", "friction"):
            value = getattr(self, name)
            if not (is_number(value) and value > 0):
                raise ValueError(f"`{name}` must be a positive number, got {value!r}")
        if not (is_number(self.equilibration) and self.equilibration >= 0):
            raise ValueError(
                f"`equilibration` must be zero or a positive time in ps, got {self.equilibration!r}"
            )
        for name in ("every", "keep_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive whole number, got {value!r}")
        if self.n_currents < 2:
            raise ValueError(
                f"`production` = {self.production:g} ps has no two currents {self.interval:g} fs "
                "apart"
            )

    @property
    def interval(self) -> float:
        """Time from one current to the next [fs]."""
        return self.every * self.timestep

    @property
    def n_equilibration(self) -> int:
        """Steps of the first part, rounded up to a current."""
        return self.every * math.ceil(1000.0 * self.equilibration / self.interval - 1e-9)

    @property
    def n_currents(self) -> int:
        """Currents of the second part, that of its first frame included."""
        return 1 + math.floor(1000.0 * self.production / self.interval + 1e-9)
