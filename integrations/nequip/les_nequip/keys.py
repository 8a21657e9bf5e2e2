"""Names that LES adds to those of nequip."""

from __future__ import annotations

from typing import Final

#: Long-range energy of each structure ``[n_structures, 1]`` [eV].
LES_ENERGY_KEY: Final[str] = "les_energy"

#: Dipole of each structure ``[n_structures, 3]`` [e A]; upstream's ``dipole`` is one of each atom.
LES_DIPOLE_KEY: Final[str] = "les_dipole"

#: Total charge of each structure ``[n_structures, 1]`` [e], an input.
TOTAL_CHARGE_KEY: Final[str] = "total_charge"

#: Spin multiplicity of each structure ``[n_structures, 1]``, an input.
SPIN_KEY: Final[str] = "spin"

#: External field of each structure ``[n_structures, 3]`` [V/A], an input.
EXTERNAL_FIELD_KEY: Final[str] = "external_field"

#: State of a structure -> the field that the model is given it in.
STATE_KEYS: Final = {
    "total_charge": TOTAL_CHARGE_KEY,
    "spin": SPIN_KEY,
    "external_field": EXTERNAL_FIELD_KEY,
}

#: With this input, of any value, LES adds ``charges`` to the data as they are read, and nothing
#: else: their energy is that of atoms which are divided among ranks.
READ_KEY: Final[str] = "les_read"

#: Label of the fragment of each atom ``[n_atoms, 1]``, an input.
FRAGMENT_KEY: Final[str] = "fragment"

#: Total charge of the fragment of each atom ``[n_atoms, 1]`` [e], an input.
FRAGMENT_CHARGE_KEY: Final[str] = "fragment_charge"

#: Electronegativity and hardness of each atom ``[n_atoms, 2]`` [eV/e, eV/e^2], where there are any.
EQUILIBRATION_KEY: Final[str] = "equilibration_parameters"

#: Label of a response -> its field, upstream's or ours.
RESPONSE_FIELDS: Final = {"bec": "born_effective_charges", "dipole": LES_DIPOLE_KEY}

#: Entry in the metadata of models: settings of LES, as JSON.
METADATA_KEY: Final[str] = "les"

#: Setting there: how Born effective charges are evaluated; not in files of earlier releases.
BEC_METHOD: Final[str] = "bec_method"
