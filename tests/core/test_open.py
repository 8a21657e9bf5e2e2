"""Open boundaries: the sum over pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from les import Ewald
from les.units import COULOMB_CONSTANT


def pair_energy(charges, positions, sigma):
    """Double loop over atoms, with Python's own error function."""
    energy = 0.0
    for i, j in itertools.combinations(range(len(positions)), 2):
        distance = math.dist(positions[i], positions[j])
        product = sum(a * b for a, b in zip(charges[i], charges[j], strict=True))
        energy += product * math.erf(distance / (math.sqrt(2.0) * sigma)) / distance
    return COULOMB_CONSTANT * energy


@pytest.mark.parametrize("n_atoms", [1, 2, 17])
@pytest.mark.parametrize("self_interaction", [True, False])
def test_sum_over_pairs(make_system, dtype, tolerance, n_atoms, self_interaction):
    charges, positions, cell = make_system("open", n_atoms, dtype, channels=2, total=1.0)
    sigma = 0.9
    ewald = Ewald(sigma, remove_self_interaction=not self_interaction)
    energy, _ = ewald(charges, positions, cell)
    expected = pair_energy(charges.tolist(), positions.tolist(), sigma)
    if self_interaction:
        squares = charges.double().square().sum().item()
        expected += COULOMB_CONSTANT * squares / (sigma * math.sqrt(2.0 * math.pi))
    assert energy.item() == pytest.approx(expected, rel=tolerance, abs=1e-12)


def test_far_apart_gaussians_are_points():
    charges = torch.tensor([1.0, -2.0]).double()
    positions = torch.tensor([[0.0, 0, 0], [0, 50.0, 0]]).double()
    energy, _ = Ewald()(charges, positions, torch.zeros(1, 3, 3).double())
    assert energy.item() == pytest.approx(-2.0 * COULOMB_CONSTANT / 50.0, rel=1e-14)


@pytest.mark.parametrize("self_interaction", [True, False])
def test_second_derivatives(make_system, check_gradients, self_interaction):
    charges, positions, cell = make_system("open", 4, channels=2)
    ewald = Ewald(remove_self_interaction=not self_interaction)

    def energy(charges, positions):
        return ewald(charges, positions, cell)[0]

    leaves = charges.requires_grad_(), positions.requires_grad_()
    check_gradients(energy, leaves)


def second_derivatives(module, positions):
    charges = torch.tensor([0.7, -0.4, 0.2], dtype=positions.dtype)
    cell = torch.zeros(1, 3, 3, dtype=positions.dtype)
    leaf = positions.clone().requires_grad_()
    energy, _ = module(charges, leaf, cell)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf, create_graph=True)
    rows = [
        torch.autograd.grad(component, leaf, retain_graph=True)[0]
        for component in gradient.flatten()
    ]
    return energy, gradient, torch.stack(rows)


@pytest.mark.parametrize("distance", [1e-9, 1e-5, 1e-3])
def test_nearly_coinciding_atoms(dtype, distance):
    """The kernel tends to sqrt(2 / pi) / sigma, and no derivative may become NaN."""
    positions = torch.tensor([[0.0, 0, 0], [distance, 0, 0], [1.0, 1.0, 1.0]], dtype=dtype)
    energy, gradient, hessian = second_derivatives(Ewald(), positions)
    far = math.sqrt(3.0)
    pair = (0.7 - 0.4) * 0.2 * math.erf(far / math.sqrt(2.0)) / far
    together = 0.7 * -0.4 * math.sqrt(2.0 / math.pi)
    assert energy.item() == pytest.approx(COULOMB_CONSTANT * (pair + together), rel=1e-3)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(hessian).all()


def test_coinciding_atoms_are_refused():
    """Also by TorchScript, rather than becoming NaN."""
    positions = torch.tensor([[0.5, 0, 0], [2.0, 0, 0], [0.5, 0, 0], [1.0, 1.0, 1.0]])
    arguments = torch.ones(4), positions, torch.zeros(1, 3, 3)
    message = r"atoms 0 and 2 .* at the same place"
    with pytest.raises(ValueError, match=message):
        Ewald()(*arguments)
    with pytest.raises(RuntimeError, match=message):
        torch.jit.script(Ewald())(*arguments)


def test_equal_places_in_different_structures():
    """Only atoms of one structure must be apart, and padding must not count as atoms."""
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0]])
    batch = torch.tensor([0, 0, 1, 1, 2])
    energy, _ = Ewald()(torch.ones(5), positions, torch.zeros(3, 3, 3), batch)
    expected = COULOMB_CONSTANT * math.erf(math.sqrt(0.5))
    assert energy.tolist() == pytest.approx([expected, expected, 0.0], rel=1e-5)
