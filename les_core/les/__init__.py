"""Latent Ewald Summation: long-range electrostatics for machine-learned potentials."""

from les.config import LESConfig
from les.ewald import Ewald
from les.les import Les
from les.readout import ChargeReadout
from les.response.born import born_effective_charges
from les.response.dipoles import dipole_moments
from les.response.gauge import ChargeSign, charge_sign, fix_charge_sign
from les.response.moments import Carried, Edges

__version__ = "0.1.0"

__all__ = [
    "Carried",
    "ChargeReadout",
    "ChargeSign",
    "Edges",
    "Ewald",
    "LESConfig",
    "Les",
    "born_effective_charges",
    "charge_sign",
    "dipole_moments",
    "fix_charge_sign",
]
