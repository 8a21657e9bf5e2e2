"""Dimers of side chains: two molecules of known charges, which they keep when drawn apart."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from les.fragments import Fragments


def molecules(atoms: Atoms) -> Fragments:
    """The first molecule of a dimer and the second, with their charges."""
    second = np.arange(len(atoms)) >= atoms.info["nA"]
    charges = np.where(second, atoms.info["chargeB"], atoms.info["chargeA"])
    return Fragments(second.astype(np.int64), charges.astype(float))
