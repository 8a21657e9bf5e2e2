"""Latent Ewald Summation: long-range electrostatics for machine-learned potentials."""

from les.config import LESConfig
from les.ewald import Ewald
from les.les import Les
from les.readout import ChargeReadout
from les.response.born import born_effective_charges
from les.response.current import current
from les.response.dipoles import dipole_moments
from les.response.gauge import ChargeSign, charge_sign, fix_charge_sign
from les.response.moments import Carried, Edges
from les.response.polarisation import Polarisation
from les.response.quadrupoles import quadrupole_moments
from les.response.sum_rules import acoustic_sum, spread_acoustic_sum

__version__ = "1.0.0rc1"

__all__ = [
    "Carried",
    "ChargeReadout",
    "ChargeSign",
    "Edges",
    "Ewald",
    "LESConfig",
    "Les",
    "Polarisation",
    "acoustic_sum",
    "born_effective_charges",
    "charge_sign",
    "current",
    "dipole_moments",
    "fix_charge_sign",
    "quadrupole_moments",
    "spread_acoustic_sum",
]
