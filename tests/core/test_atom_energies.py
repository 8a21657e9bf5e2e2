"""Energies of atoms whose sums have cheap derivatives."""

from __future__ import annotations

import pytest
import torch

from les import Ewald
from les.atom_energies import atom_energies, summable

BATCH = torch.tensor([0, 0, 0, 2, 2, 2])  # the structure between them has no atoms


@pytest.fixture
def positions():
    return (2.0 * torch.randn(6, 3, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def cell():
    return 9.0 * torch.eye(3, dtype=torch.float64).expand(3, 3, 3)


def evaluated(positions, cell):
    """Energies of structures, and of atoms without and with ``summable``."""
    charges = positions.square().sum(dim=1)
    energy, potential = Ewald()(charges, positions, cell, BATCH, compute_potential=True)
    shares = atom_energies(charges, potential)
    return energy, shares, summable(shares, energy, BATCH)


def gradient(value, positions, **options):
    return torch.autograd.grad(value, positions, **options)[0]


def test_values(positions, cell):
    energy, shares, found = evaluated(positions, cell)
    assert torch.equal(found, shares)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, BATCH, found)
    torch.testing.assert_close(sums, energy)


def test_a_sum_has_the_derivatives_of_the_energy(positions, cell, monkeypatch):
    """All structures together, or weighed; first and second derivatives."""
    factors = torch.tensor([1.5, 0.0, -2.0], dtype=torch.float64)
    found = {}
    for name in ("energy", "atoms"):
        energy, _, atoms = evaluated(positions, cell)
        total = (factors * energy).sum() if name == "energy" else (factors[BATCH] * atoms).sum()
        first = gradient(total, positions, create_graph=True)
        # A third derivative of the sum would be one of these.
        monkeypatch.setattr("les.sums.function._Second.backward", None)
        found[name] = first, gradient(first.square().sum(), positions)
    assert found["energy"][1].abs().max() > 1e-3
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batched", [False, True])
def test_single_atoms_have_their_own_derivatives(positions, cell, batched):
    _, shares, found = evaluated(positions, cell)
    rows = torch.eye(6, dtype=torch.float64)
    own, other = (
        torch.stack(
            [gradient(value, positions, grad_outputs=row, retain_graph=True) for row in rows]
        )
        for value in (shares, found)
    )
    if batched:
        other = gradient(found, positions, grad_outputs=rows, is_grads_batched=True)
    torch.testing.assert_close(other, own)
    assert (own[0] - own[1]).abs().max() > 1e-3
    energy = evaluated(positions, cell)[0]
    torch.testing.assert_close(other.sum(dim=0), gradient(energy.sum(), positions))
