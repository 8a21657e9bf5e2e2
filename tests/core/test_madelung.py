r"""Lattice energies of point charges: Madelung constants.

Gaussian charges that do not overlap interact like points, except for the neutralising
background of a charged cell. Replacing :math:`1/r` by :math:`\mathrm{erf}(r/\sqrt2\sigma)/r`
takes :math:`\int \mathrm{erfc}(r/\sqrt2\sigma)/r\,d^3r = 2\pi\sigma^2` from the kernel, and
with k = 0 left out this appears as :math:`E = E_\mathrm{points} + k_e\pi\sigma^2Q^2/V`.
"""

from __future__ import annotations

import json
import math

import pytest
import torch

#: Narrow enough that erfc(d / sqrt(2) sigma) < 1e-9 for d = 0.43, the shortest distance.
SIGMA = 0.065
#: exp(-sigma^2 k_max^2 / 2) < 1e-9.
DL = 0.06


def point_charge_energy(ewald, cell, fractional, charges, sigma=SIGMA):
    """Energy per cell [e^2 / length] in the limit of point charges."""
    cell = torch.tensor(cell).double()
    charges = torch.tensor(charges).double()
    positions = torch.tensor(fractional).double() @ cell
    energy, _ = ewald(charges, positions, cell.unsqueeze(0))
    volume = torch.linalg.det(cell).abs()
    return (energy - math.pi * sigma**2 * charges.sum() ** 2 / volume).item()


FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
CUBE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
CENTRE = [[0.0] * 3, [0.5] * 3]


@pytest.mark.parametrize(
    ("cell", "fractional", "charges", "distance", "constant"),
    [
        (FCC, CENTRE, [1, -1], 0.5, 1.747564594633),
        (CUBE, CENTRE, [1, -1], math.sqrt(0.75), 1.762674773071),
        (FCC, [[0.0] * 3, [0.25] * 3], [1, -1], math.sqrt(0.1875), 1.638055053388),
    ],
    ids=["NaCl", "CsCl", "zincblende"],
)
@pytest.mark.parametrize("cutoff", ["sharp", "smooth"])
def test_textbook_constants(unit_ewald, cell, fractional, charges, distance, constant, cutoff):
    ewald = unit_ewald(sigma=SIGMA, dl=0.05, cutoff=cutoff)
    energy = point_charge_energy(ewald, cell, fractional, charges)
    assert -energy * distance == pytest.approx(constant, abs=1e-8)


@pytest.mark.parametrize("sigma", [0.04, 0.08, 0.12])
def test_background_of_gaussian_charges(unit_ewald, sigma):
    """The correction in sigma^2 of this file's description, on the Wigner lattice."""
    ewald = unit_ewald(sigma=sigma, dl=0.8 * sigma)
    energy = point_charge_energy(ewald, CUBE, [[0.0] * 3], [1.0], sigma)
    assert energy == pytest.approx(-1.418648739740, abs=2e-9)


def test_reference_constants(unit_ewald, data_dir):
    crystals = json.loads((data_dir / "reference_values" / "madelung.json").read_text())["crystals"]
    assert len(crystals) >= 10
    ewald = unit_ewald(sigma=SIGMA, dl=DL)
    for crystal in crystals:
        energy = point_charge_energy(ewald, crystal["cell"], crystal["frac"], crystal["charges"])
        expected = crystal["energy_per_cell_e2_per_length"]
        assert energy == pytest.approx(expected, rel=1e-6), crystal["name"]
        if crystal["length_d"] is not None:
            constant = -energy * crystal["length_d"] / crystal["formula_units"]
            assert constant == pytest.approx(crystal["value"], rel=1e-6), crystal["name"]
