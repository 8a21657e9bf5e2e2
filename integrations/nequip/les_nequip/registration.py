"""What nequip has to know about LES before a model is built: fields and compile targets."""

from __future__ import annotations

from typing import Final

from nequip.data import AtomicDataDict, register_fields
from nequip.scripts._compile_utils import (
    ASE_TARGET,
    BATCH_TARGET,
    PAIR_NEQUIP_TARGET,
    register_compile_targets,
)
from nequip.scripts._package_utils import register_libraries_as_external_for_packaging

from les_nequip.keys import LES_ENERGY_KEY

#: Outputs of LES beside energies, and with Born effective charges.
CHARGES: Final = [AtomicDataDict.CHARGE_KEY, LES_ENERGY_KEY]
CHARGES_AND_BEC: Final = [*CHARGES, AtomicDataDict.BORN_CHARGE_KEY]

#: Upstream's compile targets with the outputs of LES. LAMMPS takes per-atom outputs only.
COMPILE_TARGETS: Final = {
    "ase_les": (ASE_TARGET, CHARGES),
    "ase_les_bec": (ASE_TARGET, CHARGES_AND_BEC),
    "batch_les": (BATCH_TARGET, CHARGES),
    "batch_les_bec": (BATCH_TARGET, CHARGES_AND_BEC),
    "pair_nequip_les": (PAIR_NEQUIP_TARGET, CHARGES[:1]),
    "pair_nequip_les_bec": (PAIR_NEQUIP_TARGET, [CHARGES[0], AtomicDataDict.BORN_CHARGE_KEY]),
}


def register() -> None:
    """Register all of it; doing so again changes nothing."""
    register_fields(graph_fields=[LES_ENERGY_KEY])
    register_compile_targets(
        {
            name: {**target, "output": [*target["output"], *outputs]}
            for name, (target, outputs) in COMPILE_TARGETS.items()
        }
    )
    # Packages keep a copy of our code; YAML files are read when configurations are written.
    register_libraries_as_external_for_packaging(extern_modules=["yaml"])
