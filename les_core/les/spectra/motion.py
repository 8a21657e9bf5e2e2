"""Atoms whose current is taken while they move, first with a thermostat, then by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from les.dynamics.ensemble import Ensemble
from les.dynamics.motion import Motion
from les.spectra.frames import sample
from les.spectra.protocol import Protocol


class CurrentMotion(Motion):
    """The atoms of a run, which move in two parts.

    Args:
        calculator: with Born effective charges.
        atoms: the structure to begin with; velocities are drawn where it has none, without motion
            as a whole. Those that it has are kept, rotation included, until the thermostat ends.
        protocol: what is run.
    """

    def __init__(self, calculator: Any, atoms: Any, protocol: Protocol) -> None:
        super().__init__(calculator, atoms, temperature=protocol.temperature, seed=protocol.seed)
        self.protocol = protocol
        self._with_thermostat = Ensemble(
            "nvt", protocol.timestep, protocol.temperature, protocol.friction
        )
        self._by_itself = Ensemble("nve", protocol.timestep)

    def records(self, last: int) -> Iterator[dict[str, Any]]:
        """Move until the step ``last``; yields what the journal keeps, from the next current on.

        The first one is that of the very beginning. One with a state is at each end of a part.
        """
        every, start = self.protocol.every, self.protocol.n_equilibration
        for _ in self.stops(last, every, self._ensemble):
            if self.step == start > 0:
                self.let_go()
            n_currents = self.step // every
            ends = self.step in (0, start, last)
            yield self._record(with_state=ends or n_currents % self.protocol.keep_every == 0)

    def _ensemble(self, step: int) -> Ensemble:
        return self._by_itself if step >= self.protocol.n_equilibration else self._with_thermostat

    def _record(self, *, with_state: bool) -> dict[str, Any]:
        self.ask_for_charges(True)
        found = sample(self.calculator, self.atoms)
        energy = self.atoms.get_potential_energy() + self.atoms.get_kinetic_energy()
        record = {
            "step": self.step,
            "part": self._ensemble(self.step).kind.upper(),
            "current": found.current,
            "temperature": found.temperature,
            "energy": float(energy),
        }
        if with_state:
            record["state"] = self.state()
        return record
