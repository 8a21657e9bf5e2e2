"""Ensembles of molecular dynamics: alone, with a thermostat, or also with a barostat."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

from les.backends.interface import BackendError
from les.ranges import is_number

#: Ensemble -> settings that it needs; the others have no effect in it.
NEEDED = {
    "nve": (),
    "nvt": ("temperature", "friction"),
    "npt": ("temperature", "friction", "pressure", "barostat_time"),
}
#: Settings that must be positive numbers where they are given; a pressure may have any sign.
POSITIVE = ("temperature", "friction", "barostat_time")


@dataclass(frozen=True)
class Ensemble:
    """An ensemble, and the integrator of ASE that samples it.

    ``nve`` is velocity Verlet; ``nvt`` is Langevin dynamics. ``npt`` is Langevin dynamics of atoms
    and volume (BAOAB, D. Quigley, M. I. J. Probert, J. Chem. Phys. 120, 11432 (2004)). It changes
    the volume of the cell, and keeps its shape.

    Attributes:
        kind: ``"nve"``, ``"nvt"`` or ``"npt"``.
        timestep: time step [fs].
        temperature: temperature of the thermostat [K].
        friction: friction of the thermostat [1/fs].
        pressure: pressure of the barostat [bar].
        barostat_time: time in which the volume follows the pressure [fs].

    Raises:
        ValueError: for another ``kind``, numbers that are not positive, a missing setting that the
            ensemble needs, and a setting that has no effect in it.
    """

    kind: str
    timestep: float
    temperature: float | None = None
    friction: float | None = None
    pressure: float | None = None
    barostat_time: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in NEEDED:
            raise ValueError(f"`ensemble` must be one of {', '.join(NEEDED)}, got {self.kind!r}")
        if not (is_number(self.timestep) and self.timestep > 0):
            raise ValueError(f"`timestep` must be a positive time in fs, got {self.timestep!r}")
        for name in NEEDED["npt"]:
            value = getattr(self, name)
            if value is None and name in NEEDED[self.kind]:
                raise ValueError(f"the ensemble {self.kind} needs a `{name}`")
            if value is not None and name not in NEEDED[self.kind]:
                raise ValueError(f"`{name}` has no effect in the ensemble {self.kind}")
            if value is not None and not is_number(value):
                raise ValueError(f"`{name}` must be a finite number, got {value!r}")
            if value is not None and name in POSITIVE and value <= 0:
                raise ValueError(f"`{name}` must be a positive number, got {value!r}")

    def check(self, atoms: Any, calculator: Any) -> None:
        """Refuse atoms that cannot be moved in this ensemble.

        Raises:
            BackendError: for an ASE without the integrator.
            ValueError: for a barostat without three periodic axes, a cell with a volume, or stress,
                and for one that would move constrained atoms; and for atoms without an energy,
                which are periodic and in an external field that is an input of the model.
        """
        has_energy = getattr(calculator, "has_energy", None)
        if has_energy is not None and not has_energy(atoms):
            raise ValueError(
                "the structure is periodic and in an external field, and has no energy that "
                "dynamics keeps: it depends on the branch of the polarisation. Take the field out "
                "of atoms.info, and let les.spectra.field.HomogeneousField follow one branch, with "
                "les.dynamics.run.run"
            )
        if self.kind != "npt":
            return
        _barostat()
        n_axes, volume = int(atoms.pbc.sum()), abs(float(atoms.cell.volume))
        if n_axes != 3 or volume < 1e-6:
            raise ValueError(
                f"the ensemble npt needs a cell with three periodic axes, got {n_axes} periodic "
                f"axes and a volume of {volume:g} A^3"
            )
        if "stress" not in getattr(calculator, "implemented_properties", ()):
            raise ValueError("the ensemble npt needs a model with stress, this one has none")
        if atoms.constraints:
            raise ValueError("the ensemble npt cannot keep constraints of atoms; take nvt or nve")

    def integrator(self, atoms: Any, generator: Any, barostat: float = 0.0) -> Any:
        """ASE's integrator.

        Args:
            atoms: the atoms to move.
            generator: random numbers of thermostat and barostat, ``numpy.random.Generator``.
            barostat: initial momentum of the volume; ``momentum_of`` returns the last one.
        """
        from ase import units
        from ase.md.langevin import Langevin
        from ase.md.verlet import VelocityVerlet

        timestep = self.timestep * units.fs
        if self.kind == "nve":
            return VelocityVerlet(atoms, timestep)
        assert self.friction is not None
        if self.kind == "nvt":
            return Langevin(
                atoms,
                timestep,
                temperature_K=self.temperature,
                friction=self.friction / units.fs,
                fixcm=False,
                rng=generator,
            )
        assert self.pressure is not None
        assert self.barostat_time is not None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using heuristic P_mass")
            made = _barostat()(
                atoms,
                timestep,
                temperature_K=self.temperature,
                externalstress=-self.pressure * units.bar,
                hydrostatic=True,
                T_tau=units.fs / self.friction,
                P_tau=self.barostat_time * units.fs,
                rng=generator,
            )
        made.p_eps = barostat
        return made


def momentum_of(integrator: Any) -> float:
    """The present momentum of the volume in an integrator; 0 without a barostat."""
    return float(getattr(integrator, "p_eps", 0.0))


def _barostat() -> Any:
    """ASE's integrator of Langevin dynamics at constant pressure."""
    try:
        return importlib.import_module("ase.md.langevinbaoab").LangevinBAOAB
    except ModuleNotFoundError as error:
        raise BackendError("the ensemble npt needs ASE 3.28 or later") from error
