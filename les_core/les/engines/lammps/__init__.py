"""LAMMPS with a model with LES, on any number of MPI ranks."""

from les.engines.lammps.coupling import Coupling, couple
from les.engines.lammps.failures import EngineError

__all__ = ["Coupling", "EngineError", "couple"]
