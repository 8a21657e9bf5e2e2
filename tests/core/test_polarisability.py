"""Polarisabilities of molecules with equilibrated charges."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms

from les import Ewald, LESConfig
from les.conjugate_gradients import Convergence
from les.equilibration import equilibrate
from les.response.polarisability import polarisability
from les.spectra.polarisability import require_polarisability
from les.structures import ChargeSums, Structures


def molecule(n=6, seed=0):
    """Electronegativities, hardnesses and positions of one open structure."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(n, 5, dtype=torch.float64, generator=generator)
    return 8.0 * values[:, 0], 4.0 + 6.0 * values[:, 1], 3.0 * values[:, 2:]


def alone(hardness, positions, **options):
    return polarisability(Ewald(), hardness, opened([len(positions)], positions), **options)[0]


def opened(sizes, positions):
    """Open structures with these numbers of atoms."""
    number = len(sizes)
    batch = torch.repeat_interleave(torch.arange(number), torch.tensor(sizes))
    cell, pbc = torch.zeros(number, 3, 3).double(), torch.zeros(number, 3, dtype=torch.bool)
    return Structures(positions, cell, batch, pbc)


def test_derivative_of_the_dipole():
    """A field is taken off the electronegativities; the dipole grows by the polarisability."""
    chi, eta, positions = molecule()

    def dipole(field):
        structures = opened([6], positions)
        found = equilibrate(chi - positions @ field, eta, structures, Ewald().settings())
        return found.charges @ positions

    found = alone(eta, positions)
    for axis, unit in enumerate(torch.eye(3).double()):
        np.testing.assert_allclose(found[:, axis], 0.5 * (dipole(unit) - dipole(-unit)), atol=1e-7)
    np.testing.assert_allclose(found, found.T, atol=1e-7)
    assert torch.linalg.eigvalsh(found).min() > 0


def test_two_atoms():
    """By hand: one charge moves along the bond, against both hardnesses and its own field."""
    hardness = torch.tensor([5.0, 7.0], dtype=torch.float64)
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]], dtype=torch.float64)
    unit = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    own = Ewald(remove_self_interaction=False)(unit, positions)[0]
    expected = 1.4**2 / (12.0 + 2.0 * float(own))
    found = alone(hardness, positions)
    np.testing.assert_allclose(found, np.diag([0.0, 0.0, expected]), atol=1e-9)
    np.testing.assert_allclose(alone(hardness, positions, epsilon_factor=1.5), 1.5 * found)


def test_batch_and_place_make_no_difference():
    parts = [molecule(n, seed)[1:] for n, seed in ((4, 1), (7, 2), (1, 3))]
    hardness, positions = (torch.cat(values) for values in zip(*parts, strict=True))
    together = polarisability(Ewald(), hardness, opened([4, 7, 1], positions))
    for found, (eta, places) in zip(together, parts, strict=True):
        np.testing.assert_allclose(found, alone(eta, places + 50.0), atol=1e-8)
    assert together[2].abs().max() == 0.0


def crystal():
    """Two molecules in a triclinic cell: hardnesses, structure and labels."""
    _, eta, positions = molecule(6)
    positions[3:] += torch.tensor([4.0, 3.0, 2.0])
    cell = torch.tensor([[[8.0, 0.3, -0.7], [1.1, 8.4, 0.3], [-1.4, 0.9, 9.1]]]).double()
    batch, fragment = torch.zeros(6, dtype=torch.long), torch.tensor([5, 5, 5, 2, 2, 2])
    return eta, Structures(positions, cell, batch, torch.ones(1, 3, dtype=torch.bool)), fragment


@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_molecules_in_a_cell(method):
    """The dipole of whole molecules grows in a field, wherever their atoms are wrapped to."""
    eta, structures, fragment = crystal()
    positions, cell, *_ = structures
    ewald, sums = Ewald(method=method), ChargeSums(fragment=fragment)
    found = polarisability(ewald, eta, structures, fragment)[0]
    dipoles = []
    for unit in torch.eye(3).double():
        answer = equilibrate(-positions @ unit, eta, structures, ewald.settings(), sums)
        dipoles.append(answer.charges @ positions)
    np.testing.assert_allclose(found, torch.stack(dipoles, dim=1), atol=1e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    scaled = polarisability(ewald, eta, structures, fragment, epsilon_factor=1.7)[0]
    np.testing.assert_allclose(scaled, 1.7 * found, rtol=1e-12)
    wrapped = positions.clone()
    wrapped[1] += cell[0, 0] - cell[0, 2]
    again = polarisability(ewald, eta, structures._replace(positions=wrapped), fragment)[0]
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_molecules_in_a_huge_cell_are_open():
    eta, structures, fragment = crystal()
    structures = structures._replace(cell=40.0 * torch.eye(3).double()[None])
    ewald = Ewald(dl=1.0)
    found = polarisability(ewald, eta, structures, fragment)
    expected = polarisability(ewald, eta, opened([6], structures.positions), fragment)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.abs().max())


def test_derivatives():
    _, eta, positions = molecule(4)
    eta.requires_grad_(True)
    positions.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda a, b: alone(a, b, convergence=Convergence(1e-13)), (eta, positions), atol=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "do not answer to a field"),
        ({"use_induced_dipole": True}, "got `self_consistent` false"),
        ({"use_induced_charge": True, "neutrality": "none"}, "got `self_consistent` false"),
    ],
)
def test_models_without_one_say_why(settings, message):
    calculator = SimpleNamespace(les_config=LESConfig(**settings))
    with pytest.raises(ValueError, match=message):
        require_polarisability(calculator, Atoms("HF", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]]))


def test_bad_input():
    _, eta, positions = molecule()
    with pytest.raises(ValueError, match="`hardness` must be positive"):
        alone(-eta, positions)
    with pytest.raises(ValueError, match="`hardness` must have shape"):
        alone(eta[:2], positions)
    with pytest.raises(ValueError, match="`epsilon_factor` must be"):
        alone(eta, positions, epsilon_factor=0.0)
    with pytest.raises(RuntimeError, match="did not converge in 2 iterations"):
        alone(eta, positions, convergence=Convergence(iterations=2))
    eta, structures, _ = crystal()
    with pytest.raises(ValueError, match=r"structure 0 is periodic: .* no polarisability"):
        polarisability(Ewald(), eta, structures)
