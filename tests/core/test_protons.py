"""Protons that move from one atom to another in a trajectory."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase import Atoms

from les.spectra.classical import water_box, water_molecule
from les.spectra.protons import partners, warn_of_moved_protons


def test_partners():
    """The nearest atom that is no hydrogen, through the boundary of the cell as well."""
    box = water_box(2)
    oxygen = np.repeat(np.flatnonzero(box.numbers == 8), 2)
    np.testing.assert_array_equal(partners(box), oxygen)
    box.positions += [1.0, 2.0, 3.0]
    box.wrap()
    np.testing.assert_array_equal(partners(box), oxygen)
    assert partners(Atoms("H2", [[0, 0, 0], [0.74, 0, 0]])).tolist() == [-1, -1]
    assert partners(Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]])).tolist() == []


@pytest.mark.parametrize("moved", [0, 1])
def test_warning(caplog, moved):
    first = water_molecule() + water_molecule()
    first.positions[3:] += [5.0, 0.0, 0.0]
    last = first.copy()
    last.rattle(0.05, seed=1)
    if moved:
        hydrogen, oxygen = np.flatnonzero(first.numbers == 1)[0], np.flatnonzero(first.numbers == 8)
        last.positions[hydrogen] = last.positions[oxygen[1]] + [0.0, 0.0, 1.0]
    with caplog.at_level(logging.WARNING, "les"):
        warn_of_moved_protons(first, last)
    assert ("1 of 4 hydrogen atoms are bonded to another atom at the end" in caplog.text) == moved
