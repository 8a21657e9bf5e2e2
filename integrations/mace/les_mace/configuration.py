"""What a MACE model with LES may be asked for, when it is made and when it is evaluated."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from les import LESConfig
from les.legacy import HOST_KEYS

logger = logging.getLogger("les")

#: Keys of published hosts that only belong to these.
WITHOUT_EFFECT = HOST_KEYS.difference(("compute_bec", "bec_output_index", "alpha_irreps"))


def configuration(les_arguments: LESConfig | Mapping[str, Any] | None) -> LESConfig:
    """The configuration of a model; raises ``ValueError`` for what it cannot do."""
    if isinstance(les_arguments, Mapping):
        if les_arguments.get("use_atomwise", False):
            raise ValueError("`use_atomwise` is not supported by MACELES, which reads charges")
        if "2e" in str(les_arguments.get("alpha_irreps", "")):
            les_arguments = {**les_arguments, "use_anisotropic_polarizability": True}
    return LESConfig.for_charges(les_arguments, unused=())


def born_options(les_arguments: LESConfig | Mapping[str, Any] | None) -> tuple[bool, int | None]:
    """Whether Born effective charges are computed always, and the only component that is kept.

    Warns of keys that have no effect on the model.

    Raises:
        ValueError: for another ``bec_output_index`` than 0, 1 and 2.
    """
    if les_arguments is None or isinstance(les_arguments, LESConfig):
        return False, None
    for key in WITHOUT_EFFECT & set(les_arguments):
        logger.warning("`%s` has no effect on this model, got %r", key, les_arguments[key])
    index = les_arguments.get("bec_output_index")
    if index not in (None, 0, 1, 2):
        raise ValueError(f"`bec_output_index` must be 0, 1 or 2, got {index!r}")
    return bool(les_arguments.get("compute_bec", False)), index


def check_request(has_pbc: bool, lammps_mliap: bool, divides_energy: bool) -> None:
    """Refuse what upstream can do and a model with LES cannot; TorchScript compiles this.

    Args:
        has_pbc: whether the input says which axes are periodic.
        lammps_mliap: whether LAMMPS ML-IAP asks.
        divides_energy: whether edge forces or atomic stresses are asked for.

    Raises:
        ValueError: for these two, and an input without ``pbc``.
    """
    if lammps_mliap:
        raise ValueError(
            "a model with LES cannot run as LAMMPS ML-IAP, which passes neither positions nor "
            "cell; use `les lammps`"
        )
    if divides_energy:
        raise ValueError(
            "edge forces and atomic stresses are not defined for the long-range energy of LES; "
            "leave `compute_edge_forces` and `compute_atomic_stresses` false"
        )
    if not has_pbc:
        raise ValueError(
            "a model with LES needs `pbc` in its input; LAMMPS, which does not pass it and adds "
            "ghost atoms, is for `les lammps`"
        )
