"""Dipoles and Born effective charges."""

from __future__ import annotations

import math

import pytest
import torch

from les import Les, born_effective_charges, dipole_moments


def charges_from(positions, parameter=1.0, box=None):
    """Smooth charges that depend on all distances (periodic distances with ``box``)."""
    separation = positions.unsqueeze(0) - positions.unsqueeze(1)
    if box is not None:
        separation = box / math.pi * torch.sin(math.pi * separation / box)
    weights = torch.exp(-0.3 * parameter * separation.square().sum(-1))
    scale = torch.linspace(-1.0, 1.0, len(positions), dtype=positions.dtype)
    return (weights * torch.outer(scale, scale + 0.3)).sum(1)


@pytest.fixture
def positions(make_system):
    """Five atoms within a few Angstrom."""
    return (0.5 * make_system("open", 5).positions).requires_grad_()


@pytest.fixture
def no_cell():
    """Of an open structure."""
    return torch.zeros(1, 3, 3).double()


@pytest.fixture
def one():
    """The structure of each atom."""
    return torch.zeros(5, dtype=torch.long)


@pytest.mark.parametrize("kind", ["open", "cubic", "triclinic", "left_handed"])
@pytest.mark.parametrize("remove_mean", [True, False])
def test_constant_charges(make_system, kind, remove_mean):
    """Z* is the charge itself, exactly, in every cell."""
    charges, positions, cell = make_system(kind, 6, total=1.0)
    bec = born_effective_charges(
        charges,
        positions.requires_grad_(),
        cell,
        remove_mean=remove_mean,
        epsilon_factor=2.25,
        method="phase",
    )
    q = charges - charges.mean() if remove_mean else charges
    torch.testing.assert_close(bec, 1.5 * q.view(-1, 1, 1) * torch.eye(3).double())


@pytest.mark.parametrize("remove_mean", [True, False])
def test_open_is_the_derivative_of_the_dipole(positions, remove_mean, no_cell, one):
    bec = born_effective_charges(
        charges_from(positions), positions, no_cell, remove_mean=remove_mean, epsilon_factor=1.7
    )

    def dipole(r):
        return dipole_moments(charges_from(r), r, one, 1, remove_mean, 1.7)[0]

    step = 1e-5
    expected = torch.zeros_like(bec)
    for atom in range(5):
        for axis in range(3):
            shift = torch.zeros_like(positions)
            shift[atom, axis] = step
            difference = dipole(positions + shift) - dipole(positions - shift)
            expected[atom, :, axis] = difference.detach() / (2.0 * step)
    torch.testing.assert_close(bec, expected, rtol=1e-7, atol=1e-8)


def test_acoustic_sum_rule(positions, no_cell):
    """Moving a molecule without net charge as a whole changes no dipole."""
    charges = charges_from(positions)
    total = born_effective_charges(charges, positions, no_cell, remove_mean=True).sum(0)
    torch.testing.assert_close(total, torch.zeros(3, 3).double(), rtol=0.0, atol=1e-12)
    total = born_effective_charges(charges, positions, no_cell, remove_mean=False).sum(0)
    torch.testing.assert_close(total, charges.detach().sum() * torch.eye(3).double())


def test_large_cell_is_open(positions, no_cell):
    """The phase evaluation is exact to (2 pi x / L)^2."""
    charges = charges_from(positions)
    expected = born_effective_charges(charges, positions, no_cell)
    errors = [
        (born_effective_charges(
            charges, positions, length * torch.eye(3).double().unsqueeze(0), method="phase"
        ) - expected).abs().max().item()
        for length in (20.0, 40.0, 80.0)
    ]  # fmt: skip
    assert errors[0] > 1e-4
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.05)


def test_wrapping_and_translation(positions):
    """Z* of periodic charges does not know which image an atom is."""
    box = 6.0
    cell = box * torch.eye(3).double().unsqueeze(0)
    away = box * torch.randint(-3, 4, (5, 3)) + torch.tensor([0.7, 11.0, -0.2]).double()
    results = []
    for r in (positions.detach(), positions.detach() + away):
        r.requires_grad_()
        results.append(born_effective_charges(charges_from(r, box=box), r, cell, method="phase"))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


def test_batch_is_each_alone(make_system, join):
    systems = [make_system(k, n, seed=n) for k, n in (("open", 3), ("triclinic", 5), ("open", 1))]
    _, positions, cell, batch = join(systems)
    positions.requires_grad_()
    parts = positions.split([3, 5, 1])
    charges = torch.cat([charges_from(part) for part in parts])
    together = born_effective_charges(charges, positions, cell, batch, method="phase")
    for i, (_, r, structure) in enumerate(systems):
        r.requires_grad_()
        alone = born_effective_charges(charges_from(r), r, structure, method="phase")
        torch.testing.assert_close(together[batch == i], alone)
    pbc = torch.zeros(3, 3, dtype=torch.bool)
    as_open = born_effective_charges(charges, positions, cell, batch, pbc)
    assert not torch.allclose(as_open[batch == 1], together[batch == 1])


@pytest.mark.parametrize("kind", ["open", "triclinic"])
def test_create_graph(make_system, check_gradients, kind):
    """Born effective charges can be trained on."""
    _, positions, cell = make_system(kind, 4)

    def bec(parameter, positions):
        charges = charges_from(positions, parameter)
        return born_effective_charges(charges, positions, cell, create_graph=True, method="phase")

    parameter = torch.tensor(1.0).double().requires_grad_()
    leaves = parameter, (0.5 * positions).requires_grad_()
    check_gradients(bec, leaves, twice=False)
    charges = charges_from(leaves[1], parameter)
    assert not born_effective_charges(charges, leaves[1], cell, method="phase").requires_grad


def test_les_keeps_the_graph_in_training(positions, no_cell):
    les = Les()
    arguments = {"positions": positions, "cell": no_cell, "latent_charges": charges_from(positions)}
    assert les.train()(**arguments, compute_bec=True)["BEC"].requires_grad
    assert not les.eval()(**arguments, compute_bec=True)["BEC"].requires_grad


def test_energy_can_still_be_differentiated_afterwards(positions, no_cell):
    les = Les().eval()
    out = les(positions, no_cell, latent_charges=charges_from(positions), compute_bec=True)
    assert torch.isfinite(torch.autograd.grad(out["E_lr"].sum(), positions)[0]).all()


def test_dipole_moments():
    """Two ions of opposite charge, and one alone; the origin must not matter."""
    positions = torch.tensor([[0.0, 0, 0], [0.0, 0, 2.0], [5.0, 5.0, 5.0]])
    batch = torch.tensor([0, 0, 1])
    charges = torch.tensor([-0.5, 0.5, 1.0])
    expected = torch.tensor([[0.0, 0, 1.0], [0, 0, 0]])
    for q in (charges, charges.unsqueeze(-1)):
        for shift in (0.0, 7.0):
            dipoles = dipole_moments(q, positions + shift, batch, 2)
            torch.testing.assert_close(dipoles, expected)
    charged = dipole_moments(charges, positions, batch, 3, remove_mean=False, epsilon_factor=4.0)
    torch.testing.assert_close(charged, torch.tensor([[0, 0, 2.0], [10.0] * 3, [0, 0, 0]]))


def test_refusals(positions, no_cell, one):
    charges = charges_from(positions)
    one_channel = born_effective_charges(charges.unsqueeze(-1), positions, no_cell)
    torch.testing.assert_close(one_channel, born_effective_charges(charges, positions, no_cell))
    with pytest.raises(ValueError, match="`charges` must have one channel"):
        born_effective_charges(charges.view(-1, 1).repeat(1, 2), positions, no_cell)
    with pytest.raises(ValueError, match="`charges` must have one channel"):
        dipole_moments(charges.view(-1, 1).repeat(1, 2), positions, one, 1)
    with pytest.raises(ValueError, match="`positions` must require gradients"):
        born_effective_charges(charges, positions.detach(), no_cell)
    with pytest.raises(ValueError, match="`method` must be one of exact, phase, got 'harmonics'"):
        born_effective_charges(charges, positions, no_cell, method="harmonics")
    with pytest.raises(ValueError, match=r"`cell` must have shape .* got \[3, 3\]"):
        born_effective_charges(charges, positions, no_cell[0])
    pbc = torch.tensor([[True, False, False]])
    with pytest.raises(ValueError, match="`pbc` must have none, two or three axes true"):
        born_effective_charges(charges, positions, no_cell + torch.eye(3), pbc=pbc)


def test_dipoles_of_bad_input():
    positions = torch.zeros(2, 3)
    batch = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="`charges` must be finite, got nan"):
        dipole_moments(torch.tensor([0.1, float("nan")]), positions, batch, 1)
    with pytest.raises(ValueError, match=r"`charges` must have shape \[n_atoms\]"):
        dipole_moments(torch.zeros(3), positions, batch, 1)
