"""Moving atoms, and the state from which their motion can be continued."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from les.backends.signs import restore_sign, state_of_sign
from les.dynamics.ensemble import Ensemble, momentum_of
from les.dynamics.momenta import inner_momenta, temperature
from les.response.born import BORN_CHARGES

#: A temperature that no atoms live through [K]; ten times that of a thermostat where this is more.
HOTTEST = 1e4


class UnstableError(ValueError):
    """The dynamics is unstable; the message names the step and the reason."""


class Motion:
    """Moving atoms. Their path is the same in pieces, from a stored state, and without a break.

    Args:
        calculator: ASE calculator. Born effective charges, if it has any, are computed only at the
            end of :meth:`advance`.
        atoms: the first structure. Its velocities are kept; if it has none, they are drawn without
            motion of the whole system.
        temperature: temperature of random velocities [K].
        seed: seed of random velocities and of the thermostat.

    Attributes:
        step: number of steps that have been made.
        atoms: the present structure.

    Raises:
        ValueError: for atoms without velocities if ``temperature`` is ``None``.
    """

    def __init__(
        self, calculator: Any, atoms: Any, *, temperature: float | None, seed: int
    ) -> None:
        from ase.units import kB

        self.calculator = calculator
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self.generator = np.random.default_rng(seed)
        self.step = 0
        self._volume_momentum = 0.0
        if not atoms.has("momenta"):
            if temperature is None:
                raise ValueError(
                    "the structure has no velocities: a `temperature` is needed to draw them"
                )
            widths = np.sqrt(kB * temperature * atoms.get_masses())[:, None]
            self.atoms.set_momenta(widths * self.generator.normal(size=(len(atoms), 3)))
            self.let_go()

    def advance(self, ensemble: Ensemble, n_steps: int) -> None:
        """Make steps.

        Raises:
            UnstableError: if atoms get too hot, or the calculator refuses their positions.
        """
        integrator = ensemble.integrator(self.atoms, self.generator, self._volume_momentum)
        hottest = max(HOTTEST, 10.0 * (ensemble.temperature or 0.0))
        for number in range(n_steps):
            self.ask_for_charges(number == n_steps - 1)
            try:
                integrator.step()
            except (ValueError, FloatingPointError) as error:
                raise UnstableError(
                    f"step {self.step + 1}: {error}; {_advice(ensemble.timestep)}"
                ) from error
            self.step += 1
            found = self._kinetic_temperature()
            if not found < hottest:  # NaN is not
                raise UnstableError(
                    f"step {self.step}: the temperature must stay below {hottest:g} K, got "
                    f"{found:.3g} K; {_advice(ensemble.timestep)}"
                )
        self._volume_momentum = momentum_of(integrator)

    def stops(self, last: int, every: int, ensemble: Callable[[int], Ensemble]) -> Iterator[None]:
        """Move until the step ``last`` with a progress bar; yields after every ``every`` steps.

        Before the first step it yields, too.

        Args:
            last: last step; it and the number of steps made before are multiples of ``every``.
            every: number of steps from one stop to the next.
            ensemble: function of a step that returns the ensemble to sample from there on.
        """
        from tqdm import tqdm

        with tqdm(total=last, initial=self.step, unit="step", mininterval=1.0) as progress:
            if self.step == 0:
                yield
            while self.step < last:
                sampled = ensemble(self.step)
                self.advance(sampled, every)
                progress.set_postfix_str(
                    f"{sampled.kind.upper()} {temperature(self.atoms):.0f} K", refresh=False
                )
                progress.update(every)
                yield

    def state(self) -> dict[str, Any]:
        """Everything that is needed to continue, except the step: arrays, and values for JSON."""
        return {
            "positions": self.atoms.positions,
            "momenta": self.atoms.get_momenta(),
            "cell": np.array(self.atoms.cell[:]),
            "volume_momentum": self._volume_momentum,
            "generator": self.generator.bit_generator.state,
            "sign": state_of_sign(self.calculator),
        }

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Return to a step, and to the result of :meth:`state` at that step."""
        self.step = step
        if "cell" in state:
            self.atoms.set_cell(state["cell"])
        self.atoms.positions = state["positions"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self._volume_momentum = state.get("volume_momentum", 0.0)
        self.generator.bit_generator.state = state["generator"]
        restore_sign(self.calculator, state["sign"])

    def let_go(self) -> None:
        """Remove the motion of the whole system, which random velocities or a thermostat cause.

        It is kept if atoms are constrained, since these cannot move as a whole.
        """
        if not self.atoms.constraints:
            self.atoms.set_momenta(inner_momenta(self.atoms))

    def ask_for_charges(self, wanted: bool) -> None:
        """Switch the computation of Born effective charges on or off; it costs more than a step."""
        for each in (self.calculator, *getattr(self.calculator, "members", ())):
            if BORN_CHARGES in getattr(each, "implemented_properties", ()):
                each.bec = wanted

    def _kinetic_temperature(self) -> float:
        from ase.units import kB

        energy = float(self.atoms.get_kinetic_energy())
        return 2.0 * energy / (3 * len(self.atoms) * kB) if math.isfinite(energy) else math.nan


def _advice(timestep: float) -> str:
    return (
        f"the run is unstable: try a shorter time step than {timestep:g} fs, a relaxed structure "
        "to begin with, or another model"
    )
