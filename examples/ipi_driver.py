"""The driver of i-PI for a model: forces, charges, dipole and Born effective charges.

i-PI loads this file: <ffdirect><pes>custom</pes><pes_path>ipi_driver.py</pes_path>, or
i-pi-driver-py -m custom -P ipi_driver.py for a driver that talks to it by a socket.

i-PI has atomic units; what it is given as extras is, in its own convention: "charges" [e], "dipole"
[e bohr], and "BEC" [3 n_atoms, 3] with a row for each displacement, which sum to zero.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import Bohr, Hartree
from ipi.pes.dummy import Dummy_driver
from models import calculator

from les.response.born import BORN_CHARGES
from les.spectra.classical import FlexibleWater
from les.spectra.frames import born_charges

__DRIVER_NAME__ = "les"
__DRIVER_CLASS__ = "LESDriver"


class LESDriver(Dummy_driver):
    """Energy and forces of a model, and what follows from its charges.

    Args:
        template: a file with the structure: elements, periodic axes and total charge.
        model: a model file; without one it is a classical model of water.
        bec: also give Born effective charges.
        kwargs: those of i-PI's drivers.
    """

    def __init__(self, template, model=None, bec=False, **kwargs):
        self._atoms = read(template)
        self._model = calculator(None if model is None else Path(model), FlexibleWater)
        self._model.bec = bec
        super().__init__(**kwargs)

    def compute_structure(self, cell, pos):
        """Energy, forces, virial and extras, in atomic units.

        Args:
            cell: vectors in columns ``[3, 3]``, whatever they are where nothing is periodic.
            pos: ``[n_atoms, 3]``.
        """
        structure, model = self._atoms.copy(), self._model
        structure.positions = Bohr * pos
        if structure.pbc.any():
            structure.set_cell(Bohr * cell.T)
        model.calculate(structure)
        results = model.results
        virial = np.zeros((3, 3))  # a model without stress is for a volume that stays
        if "stress" in results:
            stress = voigt_6_to_full_3x3_stress(results["stress"])
            virial = -structure.get_volume() * stress / Hartree
        extras = {}
        if "charges" in results:
            extras["charges"] = results["charges"].tolist()
            extras["dipole"] = (results["dipole"] / Bohr).tolist()
        if BORN_CHARGES in results:
            structure.calc = model
            # Atom, polarisation, displacement here; a row is a displacement there.
            bec = born_charges(model, structure).transpose(0, 2, 1)
            extras["BEC"] = bec.reshape(-1, 3).tolist()
        energy, forces = results["energy"] / Hartree, results["forces"] * Bohr / Hartree
        return energy, forces, virial, json.dumps(extras)
