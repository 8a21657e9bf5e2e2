"""Atoms that move, and the state that they can go on from."""

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
    """The atoms fly apart; the message names the step and what was found."""


class Motion:
    """Moving atoms. Moved in pieces, from a state on or at once, they go the same way.

    Args:
        calculator: ASE calculator. Where it computes Born effective charges, it does so only when
            :meth:`advance` has come to its end.
        atoms: the structure to begin with; velocities are drawn where it has none, without motion
            as a whole. Those that it has are kept.
        temperature: of the velocities that are drawn [K].
        seed: of the velocities that are drawn, and of the thermostat.

    Attributes:
        step: steps that have been made.
        atoms: the structure as it is now.

    Raises:
        ValueError: for atoms without velocities where ``temperature`` is ``None``.
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
            UnstableError: where atoms get too hot, or the calculator refuses where they have come
                to.
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
            last: where it ends; ``last`` and steps made before are multiples of ``every``.
            every: steps from one stop to the next.
            ensemble: which one is sampled from a step on.
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
        """All that it takes to go on, but for the step: arrays, and what JSON holds."""
        return {
            "positions": self.atoms.positions,
            "momenta": self.atoms.get_momenta(),
            "cell": np.array(self.atoms.cell[:]),
            "volume_momentum": self._volume_momentum,
            "generator": self.generator.bit_generator.state,
            "sign": state_of_sign(self.calculator),
        }

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Go back to a step and what :meth:`state` was there."""
        self.step = step
        if "cell" in state:
            self.atoms.set_cell(state["cell"])
        self.atoms.positions = state["positions"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self._volume_momentum = state.get("volume_momentum", 0.0)
        self.generator.bit_generator.state = state["generator"]
        restore_sign(self.calculator, state["sign"])

    def let_go(self) -> None:
        """Take the motion as a whole out, which chance or a thermostat has given.

        Constrained atoms keep theirs, since they cannot move as a whole.
        """
        if not self.atoms.constraints:
            self.atoms.set_momenta(inner_momenta(self.atoms))

    def ask_for_charges(self, wanted: bool) -> None:
        """Let Born effective charges be computed, which cost more than a step, or not."""
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
