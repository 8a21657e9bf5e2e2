"""Unit constants. les works in eV, Angstrom and elementary charges."""

from __future__ import annotations

import math

#: ``2 pi k_e`` [eV A / e^2], the prefactor of the reciprocal sum that published LES
#: models are trained with. Checkpoints of earlier releases carry 90.0474 and keep it.
NORM_FACTOR = 90.4756

#: Coulomb constant ``k_e = 1 / (4 pi eps_0)`` [eV A / e^2] that belongs to it; it agrees
#: with the CODATA value 14.399645 to 5e-7.
COULOMB_CONSTANT = NORM_FACTOR / (2.0 * math.pi)

#: Boltzmann's constant [eV/K], exact by the definition of the units.
BOLTZMANN_CONSTANT = 8.617333262e-5
