"""What nequip has to know about LES before a model is built: fields and compile targets.

nequip loads this module, its extension, with every ``import nequip``. So it loads little, and
whatever goes wrong here must not keep nequip from working.
"""

from __future__ import annotations

import logging
from typing import Final

from les_nequip.keys import (
    EQUILIBRATION_KEY,
    EXTERNAL_FIELD_KEY,
    FRAGMENT_CHARGE_KEY,
    FRAGMENT_KEY,
    LES_DIPOLE_KEY,
    LES_ENERGY_KEY,
    SPIN_KEY,
    TOTAL_CHARGE_KEY,
)

#: Our compile targets: the one of upstream that each extends, its further inputs and outputs.
#: LAMMPS passes no `pbc`, and takes what is per atom.
COMPILE_TARGETS: Final = {
    "ase_les": ("ase", ["pbc"], ["charges", LES_ENERGY_KEY]),
    "ase_les_bec": ("ase", ["pbc"], ["charges", LES_ENERGY_KEY, "born_effective_charges"]),
    "batch_les": ("batch", ["pbc"], ["charges", LES_ENERGY_KEY]),
    "batch_les_bec": ("batch", ["pbc"], ["charges", LES_ENERGY_KEY, "born_effective_charges"]),
    "pair_nequip_les": ("pair_nequip", [], ["charges"]),
    "pair_nequip_les_bec": ("pair_nequip", [], ["charges", "born_effective_charges"]),
}


def register() -> None:
    """Register all of it; doing so again changes nothing."""
    from nequip.data import register_fields
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT, register_compile_targets
    from nequip.scripts._package_utils import register_libraries_as_external_for_packaging

    from les.latent_moments import ATOMIC_MOMENTS

    register_fields(
        graph_fields=[
            LES_ENERGY_KEY,
            LES_DIPOLE_KEY,
            TOTAL_CHARGE_KEY,
            SPIN_KEY,
            EXTERNAL_FIELD_KEY,
        ],
        node_fields=[FRAGMENT_KEY, FRAGMENT_CHARGE_KEY, EQUILIBRATION_KEY, *ATOMIC_MOMENTS],
        long_fields=[FRAGMENT_KEY],
    )
    targets = {}
    for name, (upstream, inputs, outputs) in COMPILE_TARGETS.items():
        target = COMPILE_TARGET_DICT[upstream]
        targets[name] = {
            **target,
            "input": [*target["input"], *inputs],
            "output": [*target["output"], *outputs],
        }
    register_compile_targets(targets)
    # Packages get a copy of our code; only the functions that read YAML files need this.
    register_libraries_as_external_for_packaging(extern_modules=["yaml"])


try:
    register()
except Exception as error:  # of another nequip than those this was written for
    logging.getLogger("les").warning("LES is not available in this nequip: %r", error)
