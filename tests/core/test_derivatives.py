"""Derivatives with respect to charges, positions and cell, once and twice."""

from __future__ import annotations

import pytest
import torch

from les import Ewald

KINDS = ["cubic", "triclinic", "rotated", "left_handed", "open"]


def strained_energy(ewald, system, strain):
    """Energy of the structure deformed by ``1 + strain``, atoms along with the cell."""
    deformation = torch.eye(3, dtype=strain.dtype) + strain
    charges, positions, cell = system
    return ewald(charges, positions @ deformation, cell @ deformation)[0].sum()


def central_difference(function, value, step):
    """Gradient of a scalar function of a tensor."""
    gradient = torch.zeros_like(value)
    for index in range(value.numel()):
        shift = torch.zeros_like(value)
        shift.view(-1)[index] = step
        difference = function(value + shift) - function(value - shift)
        gradient.view(-1)[index] = difference / (2.0 * step)
    return gradient


@pytest.mark.parametrize("kind", KINDS)
def test_forces(make_system, kind, cutoff):
    charges, positions, cell = make_system(kind, 5, total=1.0)
    ewald = Ewald(cutoff=cutoff)
    leaf = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ewald(charges, leaf, cell)[0], leaf)
    expected = central_difference(lambda r: ewald(charges, r, cell)[0].sum(), positions, 1e-4)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)
    scale = gradient.abs().max().item()
    torch.testing.assert_close(
        gradient.sum(0), torch.zeros(3).double(), rtol=0.0, atol=1e-12 * scale
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [0.0, 2.0], ids=["neutral", "charged"])
def test_stress(make_system, kind, cutoff, total):
    """All nine components; symmetric, because rotations cost nothing."""
    system = make_system(kind, 6, total=total)
    ewald = Ewald(cutoff=cutoff)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    (virial,) = torch.autograd.grad(strained_energy(ewald, system, strain), strain)
    expected = central_difference(
        lambda epsilon: strained_energy(ewald, system, epsilon), torch.zeros_like(virial), 1e-5
    )
    torch.testing.assert_close(virial, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(virial, virial.T, rtol=0.0, atol=1e-11 * virial.abs().max().item())
    assert virial.abs().max() > 0.1


@pytest.mark.parametrize("self_interaction", [True, False])
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("kind", ["triclinic", "open"])
def test_potential(make_system, kind, dtype, channels, self_interaction):
    """The potential is dE/dq, and q phi / 2 sums to E."""
    charges, positions, cell = make_system(kind, 8, dtype, channels=channels, total=1.0)
    ewald = Ewald(remove_self_interaction=not self_interaction)
    leaf = charges.clone().requires_grad_()
    energy, potential = ewald(leaf, positions, cell, compute_potential=True)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    scale = gradient.abs().max().item()
    torch.testing.assert_close(potential, gradient, rtol=0.0, atol=tolerance * scale)
    shares = 0.5 * leaf * potential
    bound = tolerance * shares.abs().sum().item()
    torch.testing.assert_close(shares.sum().view(1), energy, rtol=0.0, atol=bound)
    assert ewald(charges, positions, cell)[1] is None


@pytest.mark.parametrize("kind", ["triclinic", "left_handed", "open"])
def test_first_and_second_derivatives(make_system, check_gradients, kind, cutoff):
    """In charges, positions and cell at once, of energy and potential."""
    charges, positions, cell = make_system(kind, 3)
    # A coarse sum is as good a test, and cheap.
    ewald = Ewald(dl=3.3, cutoff=cutoff)
    leaves = [charges.requires_grad_(), positions.requires_grad_()]
    if kind != "open":
        leaves.append(cell.requires_grad_())

    def outputs(charges, positions, cell=cell):
        return ewald(charges, positions, cell, compute_potential=True)

    check_gradients(outputs, leaves)


def test_cell_gradient_without_moving_atoms(make_system, cutoff):
    """dE/dcell at fixed positions, as some host models take it."""
    charges, positions, cell = make_system("triclinic", 5)
    ewald = Ewald(cutoff=cutoff)
    leaf = cell.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ewald(charges, positions, leaf)[0], leaf)
    expected = central_difference(lambda c: ewald(charges, positions, c)[0].sum(), cell, 1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


def test_batch_of_all_kinds(make_system, join):
    """Derivatives in a mixed batch are those of each structure alone."""
    systems = [make_system(kind, 3 + i, seed=i) for i, kind in enumerate(KINDS)]
    charges, positions, cell, batch = join(systems)
    ewald = Ewald()

    def gradients(*arguments):
        leaves = [value.clone().requires_grad_() for value in arguments[:3]]
        energy = ewald(*leaves, *arguments[3:])[0].sum()
        first = torch.autograd.grad(energy, leaves[:2], create_graph=True)
        # One number that depends on all second derivatives with respect to charges and positions.
        mixed = sum(value.square().sum() for value in first)
        return [*first, *torch.autograd.grad(mixed, leaves[:2])]

    together = gradients(charges, positions, cell, batch)
    alone = [gradients(*system) for system in systems]
    for position, value in enumerate(together):
        expected = torch.cat([parts[position] for parts in alone])
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "method"), [("triclinic", "direct"), ("triclinic", "mesh"), ("open", "direct")]
)
def test_hessian(make_system, kind, method):
    """In charges, positions and strain: by torch.func and by torch.vmap over rows."""
    system = make_system(kind, 4)
    ewald = Ewald(method=method)

    def energy(x):
        charges, shift, strain = x[:4], x[4:16].view(4, 3), x[16:].view(3, 3)
        moved = (system.charges + charges, system.positions + shift, system.cell)
        return strained_energy(ewald, moved, strain)

    origin = torch.zeros(25, dtype=torch.float64)
    leaf = origin.clone().requires_grad_()
    slope = torch.autograd.grad(energy(leaf), leaf, create_graph=True)[0]
    rows = torch.vmap(lambda row: torch.autograd.grad(slope, leaf, row, retain_graph=True)[0])
    expected = torch.autograd.functional.hessian(energy, origin)
    torch.testing.assert_close(expected, expected.T)
    for found in (torch.func.jacrev(torch.func.grad(energy))(origin), rows(torch.eye(25).double())):
        torch.testing.assert_close(found, expected)
