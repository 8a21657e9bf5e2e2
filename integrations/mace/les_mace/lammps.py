"""Refusal of upstream's converters for LAMMPS, which pass a model too little for LES.

``mace_create_lammps_model`` would write a file that fails only when LAMMPS calls it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from mace.calculators.lammps_mace import LAMMPS_MACE
from mace.calculators.lammps_mliap_mace import LAMMPS_MLIAP_MACE

REASON = (
    "a model with LES cannot run in LAMMPS, which passes it no `pbc` but ghost atoms, and through "
    "ML-IAP neither positions nor cell; `les lammps` couples it to LAMMPS instead"
)

#: Under which names the module of ``mace_create_lammps_model`` may run.
PROGRAMS = ("__main__", "mace.cli.create_lammps_model")


def guard_converters(model_class: type) -> None:
    """Let upstream's converters raise ``ValueError`` for models of ``model_class``."""
    for converter in (LAMMPS_MACE, LAMMPS_MLIAP_MACE):
        converter.__init__ = _refusing(converter.__init__, model_class)
    for name in PROGRAMS:
        program: Any = sys.modules.get(name)
        # Without this it would first ask for a package that would not help.
        if hasattr(program, "LAMMPS_MLIAP_MACE") and hasattr(program, "run_e3nn_to_cueq"):
            program.run_e3nn_to_cueq = _refusing(program.run_e3nn_to_cueq, model_class)


def _refusing(function: Callable[..., Any], model_class: type) -> Callable[..., Any]:
    """``function``, unless one of its arguments is a model of ``model_class``."""
    if hasattr(function, "__wrapped__"):
        return function

    @functools.wraps(function)
    def refusing(*arguments: Any, **keywords: Any) -> Any:
        if any(isinstance(each, model_class) for each in (*arguments, *keywords.values())):
            raise ValueError(REASON)
        return function(*arguments, **keywords)

    return refusing
