"""Latent Ewald Summation: long-range electrostatics for machine-learned potentials."""

from les.born import born_effective_charges, dipole_moments
from les.config import LESConfig
from les.ewald import Ewald
from les.gauge import ChargeSign, charge_sign, fix_charge_sign
from les.les import Les
from les.readout import ChargeReadout

__version__ = "0.1.0"

__all__ = [
    "ChargeReadout",
    "ChargeSign",
    "Ewald",
    "LESConfig",
    "Les",
    "born_effective_charges",
    "charge_sign",
    "dipole_moments",
    "fix_charge_sign",
]
