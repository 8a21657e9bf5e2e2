"""Atoms that move, first with a thermostat, then by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from les.backends.signs import restore_sign, state_of_sign
from les.spectra.frames import inner_momenta, sample
from les.spectra.protocol import Protocol


class Motion:
    """The atoms of a run, and how they go on.

    Args:
        calculator: with Born effective charges.
        atoms: the structure to begin with; velocities are drawn where it has none, without motion
            as a whole. Those that it has are kept, rotation included, until the thermostat ends.
        protocol: what is run.

    Attributes:
        step: steps that have been made.
    """

    def __init__(self, calculator: Any, atoms: Any, protocol: Protocol) -> None:
        from ase.units import kB

        self.protocol = protocol
        self.calculator = calculator
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self.generator = np.random.default_rng(protocol.seed)
        self.step = 0
        if not atoms.has("momenta"):
            widths = np.sqrt(kB * protocol.temperature * atoms.get_masses())[:, None]
            self.atoms.set_momenta(widths * self.generator.normal(size=(len(atoms), 3)))
            self._let_go()

    def restore(self, record: Mapping[str, Any]) -> None:
        """Go back to a record that has a state."""
        self.step = record["step"]
        self.atoms.positions = record["state"]["positions"]
        self.atoms.set_momenta(record["state"]["momenta"])
        self.generator.bit_generator.state = record["state"]["generator"]
        restore_sign(self.calculator, record["state"]["sign"])

    def records(self, last: int) -> Iterator[dict[str, Any]]:
        """Move until the step ``last``; yields what the journal keeps, from the next current on.

        The first one is that of the very beginning. One with a state is at each end of a part.
        """
        every, start = self.protocol.every, self.protocol.n_equilibration
        if self.step == 0:
            yield self._record(with_state=True)
        while self.step < last:
            dynamics = self._dynamics()
            for number in range(every):
                # Born effective charges cost more than a step: only where they are kept.
                self._ask_for_charges(number == every - 1)
                dynamics.step()
                self.step += 1
            if self.step == start:
                self._let_go()
            n_currents = self.step // every
            ends = self.step in (start, last)
            yield self._record(with_state=ends or n_currents % self.protocol.keep_every == 0)

    def _dynamics(self) -> Any:
        from ase import units
        from ase.md.langevin import Langevin
        from ase.md.verlet import VelocityVerlet

        timestep = self.protocol.timestep * units.fs
        if self.step >= self.protocol.n_equilibration:
            return VelocityVerlet(self.atoms, timestep)
        return Langevin(
            self.atoms,
            timestep,
            temperature_K=self.protocol.temperature,
            friction=self.protocol.friction / units.fs,
            fixcm=False,
            rng=self.generator,
        )

    def _let_go(self) -> None:
        """Take the motion as a whole out, which chance or the thermostat has given."""
        self.atoms.set_momenta(inner_momenta(self.atoms))

    def _ask_for_charges(self, wanted: bool) -> None:
        if isinstance(getattr(self.calculator, "bec", None), bool):
            self.calculator.bec = wanted

    def _record(self, *, with_state: bool) -> dict[str, Any]:
        self._ask_for_charges(True)
        found = sample(self.calculator, self.atoms)
        energy = self.atoms.get_potential_energy() + self.atoms.get_kinetic_energy()
        if not (math.isfinite(energy) and math.isfinite(found.temperature)):
            raise ValueError(
                f"step {self.step}: energy and temperature must be finite, got {energy:g} eV and "
                f"{found.temperature:g} K; try a shorter time step, or another model"
            )
        part = "NVE" if self.step >= self.protocol.n_equilibration else "NVT"
        record = {
            "step": self.step,
            "part": part,
            "current": found.current,
            "temperature": found.temperature,
            "energy": float(energy),
        }
        if with_state:
            record["state"] = {
                "positions": self.atoms.positions,
                "momenta": self.atoms.get_momenta(),
                "generator": self.generator.bit_generator.state,
                "sign": state_of_sign(self.calculator),
            }
        return record
