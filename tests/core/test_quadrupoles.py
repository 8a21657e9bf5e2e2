"""Quadrupoles of molecules."""

from __future__ import annotations

import pytest
import torch

from les import dipole_moments, quadrupole_moments


@pytest.fixture
def one():
    return torch.zeros(4, dtype=torch.long)


@pytest.fixture
def molecule():
    """Charges that do not sum to zero, and positions."""
    return torch.randn(4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)


def test_linear_molecule():
    """A carbon dioxide of charges q at the ends: -2 q d^2 along the axis, with its trace."""
    positions = torch.tensor([[0.0, 0.0, -1.2], [0.0, 0.0, 0.0], [0.0, 0.0, 1.2]])
    charges = torch.tensor([-0.3, 0.6, -0.3])
    found = quadrupole_moments(charges, positions + 5.0, torch.zeros(3, dtype=torch.long), 1)
    expected = torch.zeros(1, 3, 3)
    expected[0, 2, 2] = -0.6 * 1.2**2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("remove_mean", [True, False])
def test_the_place_of_a_molecule_does_not_matter(molecule, one, remove_mean):
    charges, positions = molecule
    here = quadrupole_moments(charges, positions, one, 1, remove_mean)
    there = quadrupole_moments(charges, positions + 100.0, one, 1, remove_mean)
    torch.testing.assert_close(there, here, rtol=0.0, atol=1e-10)


def test_second_derivative_of_the_potential_far_away(molecule, one):
    """What acts on other charges: monopole, dipole and traceless quadrupole, to fourth order."""
    charges, positions = molecule
    positions = positions - positions.mean(0)
    charges = charges - charges.mean()
    dipole = dipole_moments(charges, positions, one, 1)[0]
    moments = quadrupole_moments(charges, positions, one, 1)[0]
    unit = torch.eye(3, dtype=torch.float64)
    traceless = 1.5 * (moments - moments.trace() / 3.0 * unit)
    direction = torch.tensor([0.48, 0.6, 0.64], dtype=torch.float64)

    def remainder(distance):
        exact = (charges / (distance * direction - positions).norm(dim=1)).sum()
        along = direction @ traceless @ direction
        return abs(exact - direction @ dipole / distance**2 - along / distance**3).item()

    assert remainder(40.0) > 0.0
    assert remainder(20.0) / remainder(40.0) == pytest.approx(16.0, rel=0.5)


def test_batch_and_scale(molecule, one):
    charges, positions = molecule
    alone = quadrupole_moments(charges, positions, one, 1, epsilon_factor=4.0)
    both = quadrupole_moments(
        torch.cat([charges[:3], charges])[:, None],
        torch.cat([positions[:3], positions]),
        torch.tensor([0, 0, 0, 1, 1, 1, 1]),
        2,
    )
    torch.testing.assert_close(2.0 * both[1:], alone)
    torch.testing.assert_close(both, both.transpose(1, 2))


def test_gradients(molecule, one, check_gradients):
    leaves = [leaf.requires_grad_() for leaf in molecule]
    check_gradients(lambda q, r: quadrupole_moments(q, r, one, 1), leaves)


def test_bad_input(molecule, one):
    charges, positions = molecule
    with pytest.raises(ValueError, match="`charges` must have one channel"):
        quadrupole_moments(charges[:, None].repeat(1, 2), positions, one, 1)
    with pytest.raises(ValueError, match=r"`charges` must have shape \[n_atoms\]"):
        quadrupole_moments(charges[:3], positions, one, 1)
    with pytest.raises(ValueError, match="`epsilon_factor` must be a positive number, got 0"):
        quadrupole_moments(charges, positions, one, 1, epsilon_factor=0.0)
