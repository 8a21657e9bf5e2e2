"""Names, shapes and keys of published LES, where they concern charges alone."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald, Les, born_effective_charges
from les.module import BEC
from les.module import Ewald as PublishedEwald
from les.module.make_kernels import make_kernels
from les.util import grad


@pytest.fixture
def system(make_system):
    """Charges that depend on positions, positions and a cell."""
    charges, positions, cell = make_system("triclinic", 6)
    positions.requires_grad_()
    return charges * (1.0 + 0.1 * torch.sin(positions[:, 0])), positions, cell


def test_path_that_packages_of_nequip_name():
    """They have a copy of the adapter's code, of the release that has written them."""
    from les.born import phase_evaluation
    from les.response import phase

    assert phase_evaluation is phase.phase_evaluation


def test_ewald_is_ours():
    assert PublishedEwald is Ewald
    assert Ewald(dl=1.5, sigma=1, remove_self_interaction=False, norm_factor=90.0474).dl == 1.5


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_component_of_bec(system, index):
    charges, positions, cell = system
    whole = born_effective_charges(charges, positions, cell, epsilon_factor=2.0, method="phase")
    part = BEC(epsilon_factor=2.0)(q=charges, r=positions, cell=cell, output_index=index)
    assert part.shape == (6, 3) and part.requires_grad
    assert torch.equal(part.detach(), whole[:, index])
    les = Les({"epsilon_factor": 2.0})
    part = les(positions, cell, latent_charges=charges, compute_bec=True, bec_output_index=index)[
        "BEC"
    ]
    assert torch.equal(part.detach(), whole[:, index])


def test_bec_module(system):
    charges, positions, cell = system
    expected = born_effective_charges(charges, positions, cell, remove_mean=False, method="phase")
    assert torch.equal(BEC(remove_mean=False)(charges, positions, cell).detach(), expected)
    assert BEC()(charges, positions, None).shape == (6, 3, 3)
    dipoles = 0.2 * positions**2
    both = BEC(remove_mean=False, epsilon_factor=4.0)(charges, positions, cell, u=dipoles)
    assert both.shape == (6, 2, 3, 3) and both.requires_grad
    torch.testing.assert_close(both[:, 0].detach(), 2.0 * expected)
    of_dipoles = torch.diag_embed(0.8 * positions)
    torch.testing.assert_close(both[:, 1], of_dipoles)
    one = BEC(remove_mean=False)(charges, positions, cell, u=dipoles, output_index=2)
    torch.testing.assert_close(one[:, 1], 0.5 * of_dipoles[:, 2])


def test_kernels_are_those_of_the_sum(make_system):
    charges, positions, cell = make_system("open", 7)
    ewald = Ewald(0.9)
    options = {"compute_u": False, "compute_Q": False}
    leaf = positions.clone().requires_grad_()
    kernel, *others = make_kernels(leaf, 0.9, ewald.norm_factor / (2.0 * math.pi), **options)
    assert others == [None] * 4
    energy = 0.5 * charges @ kernel @ charges
    torch.testing.assert_close(energy.view(1), ewald(charges, positions, cell)[0])
    assert torch.isfinite(torch.autograd.grad(energy, leaf)[0]).all()
    assert [x is None for x in make_kernels(positions, 0.9, 1.0, True, False)] == [False] * 3 + [
        True
    ] * 2
    assert make_kernels(positions, 0.9, 1.0, False, True)[1] is None


def test_kernels_are_derivatives(make_system):
    """Each by the position of the second atom; they interact as the sum says."""
    _, positions, _ = make_system("open", 3)

    def kernels(second):
        places = torch.stack([positions[0], second, positions[2]])
        return tuple(kernel[0, 1] for kernel in make_kernels(places, 0.9, 14.4))

    values = kernels(positions[1])
    assert [x.dim() for x in values] == [0, 1, 2, 3, 4]
    slopes = torch.autograd.functional.jacobian(kernels, positions[1])
    for value, slope, sign in zip(values[1:], slopes, (-1.0, -1.0, 1.0, 1.0)):
        torch.testing.assert_close(value, sign * slope)


def test_gradients_of_several_components():
    x = torch.rand(4, 3).double().requires_grad_()
    y = torch.stack([x.square().sum(1)[:2].sum() * torch.ones(2), x[:, 0].sum() * torch.ones(2)], 1)
    found = grad(y=y, x=x)
    assert found.shape == (4, 3, 2)
    expected = torch.zeros(4, 3, 2).double()
    expected[:2, :, 0] = 4.0 * x[:2].detach()
    expected[:, 0, 1] = 2.0
    torch.testing.assert_close(found.detach(), expected)
    phase = grad(y=torch.exp(1j * x.sum()).view(1), x=x, training=False)
    torch.testing.assert_close(phase, (1j * torch.exp(1j * x.sum())).detach().expand(4, 3))
    assert grad(y[:, 0], x).requires_grad and not phase.requires_grad
