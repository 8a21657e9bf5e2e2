"""What LES adds to the data of a model: energies, charges, dipoles and moments."""

from __future__ import annotations

from nequip.data import AtomicDataDict

from les.latent_moments import reported_moments
from les.long_range import LongRange
from les_nequip.keys import EQUILIBRATION_KEY, LES_DIPOLE_KEY, LES_ENERGY_KEY


def add_long_range(data: AtomicDataDict.Type, found: LongRange, epsilon_factor: float) -> None:
    """Add the long-range part to the energies of atoms, and the rest of it to the data.

    Args:
        data: upstream's data, as ``les_nequip.LES`` passes them on.
        found: the long-range part.
        epsilon_factor: that of the model.
    """
    energies = data[AtomicDataDict.PER_ATOM_ENERGY_KEY]
    shares = found.atom_energies.unsqueeze(-1)
    data[AtomicDataDict.PER_ATOM_ENERGY_KEY] = energies + shares.to(energies.dtype)
    data[LES_ENERGY_KEY] = found.energy.unsqueeze(-1)
    data[AtomicDataDict.CHARGE_KEY] = found.charges.unsqueeze(-1)
    if found.dipole is not None:
        data[LES_DIPOLE_KEY] = found.dipole
    if found.parameters is not None:
        data[EQUILIBRATION_KEY] = found.parameters
    if found.moments is not None:
        reported = reported_moments(found.moments, epsilon_factor)
        data.update({name: x for name, x in reported.items() if x is not None})
