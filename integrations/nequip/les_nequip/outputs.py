"""What a model with LES gives beside upstream's outputs, for the results of a calculator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nequip.data import AtomicDataDict
from torch import Tensor

from les.backends.batches import divided
from les.backends.charge_results import dipoles_of
from les.latent_moments import ATOMIC_MOMENTS
from les_nequip.keys import BEC_METHOD, EQUILIBRATION_KEY, LES_ENERGY_KEY

if TYPE_CHECKING:
    from ase import Atoms

    from les import LESConfig

#: Outputs that results of several structures are made of: one for each structure, or each atom.
OF_STRUCTURES = (AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.STRESS_KEY, LES_ENERGY_KEY)
OF_ATOMS = (
    AtomicDataDict.PER_ATOM_ENERGY_KEY,
    AtomicDataDict.FORCE_KEY,
    AtomicDataDict.CHARGE_KEY,
    AtomicDataDict.BORN_CHARGE_KEY,
    EQUILIBRATION_KEY,
    *ATOMIC_MOMENTS,
)
#: Dipoles of the charges of several structures. No model puts them out: theirs may be others.
DIPOLE_OF_CHARGES = "_dipole_of_charges"


@contextlib.contextmanager
def outputs_chosen(les_modules: Sequence[Any], bec: bool, method: str) -> Iterator[None]:
    """Let a model compute what is asked for here, and later what it is configured for.

    Args:
        les_modules: its modules of LES.
        bec: whether Born effective charges are asked for.
        method: how, one of ``les.response.born.METHODS``.
    """
    configured = [(x.compute_bec, getattr(x, BEC_METHOD, None)) for x in les_modules]
    for module in les_modules:
        module.compute_bec, module.bec_method = bec, method
    try:
        yield
    finally:
        for module, before in zip(les_modules, configured, strict=True):
            module.compute_bec, module.bec_method = before


def outputs_by_structure(
    found: AtomicDataDict.Type, structures: Sequence[Atoms], config: LESConfig | None
) -> list[dict[str, Tensor]]:
    """What a model gives for a batch, structure by structure.

    Args:
        found: the model's output.
        structures: those of the batch.
        config: how the model does its long-range part, ``None`` without LES.
    """
    kept = {key: found[key].detach() for key in (*OF_STRUCTURES, *OF_ATOMS) if key in found}
    if AtomicDataDict.CHARGE_KEY in kept and config is not None:
        charges = kept[AtomicDataDict.CHARGE_KEY]
        kept[DIPOLE_OF_CHARGES] = dipoles_of(charges, structures, config.moments_without_mean)
    sizes = [len(atoms) for atoms in structures]
    return divided(kept, sizes, (*OF_STRUCTURES, DIPOLE_OF_CHARGES))


def charge_outputs(
    out: Mapping[str, Tensor], atoms: Atoms, config: LESConfig, energy_unit: float
) -> dict[str, Tensor]:
    """What ``ChargeCalculator.add_charge_outputs`` takes of one structure.

    Args:
        out: what the model gives for it.
        atoms: the structure.
        config: how the model does its long-range part.
        energy_unit: the model's unit of energy [eV].
    """
    charges = out[AtomicDataDict.CHARGE_KEY].detach().squeeze(-1).cpu()
    dipole = out.get(DIPOLE_OF_CHARGES)
    if dipole is None:
        dipole = dipoles_of(charges, [atoms], config.moments_without_mean)[0]
    if "atomic_dipoles" in out:
        dipole = dipole + out["atomic_dipoles"].detach().sum(dim=0).cpu()
    energy = out[LES_ENERGY_KEY] * energy_unit
    return {**out, "les_energy": energy, "charges": charges, "dipole": dipole}
