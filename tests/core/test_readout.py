"""The charge readout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from les import ChargeReadout, Les, LESConfig
from les.readout import AtomReadout


def test_all_parameters_exist_at_construction():
    """An optimiser made before the first batch trains them all."""
    readout = ChargeReadout(6)
    before = [parameter.clone() for parameter in readout.parameters()]
    layers = [layer for layer in readout.network if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(32, 6), (16, 32), (1, 16)]
    optimiser = torch.optim.SGD(readout.parameters(), lr=1.0)
    readout(torch.randn(5, 6)).square().sum().backward()
    optimiser.step()
    for old, new in zip(before, readout.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_starts_small_but_not_at_zero(make_system):
    """The energy is quadratic in the charges: at zero it would not train."""
    _, positions, cell = make_system("cubic", 20, torch.float32)
    les = Les(LESConfig(use_atomwise=True, n_features=8))
    out = les(positions, cell, desc=torch.randn(20, 8))
    charges = out["latent_charges"]
    assert charges.shape == (20, 1)
    assert 1e-3 < charges.abs().mean() < 0.3
    out["E_lr"].sum().backward()
    for name, parameter in les.named_parameters():
        # The last bias is one charge for all atoms, which is shifted away.
        assert name == "atomwise.network.4.bias" or parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("linear", [True, False])
def test_initial_scale_is_not_in_the_way_of_training(linear):
    """It is in the weights: a step of theirs changes the charges as without it."""
    features = torch.randn(5, 4)

    def readout(scale):
        torch.manual_seed(2)
        return ChargeReadout(4, add_linear_nn=linear, initial_charge_scale=scale)

    small, large = readout(0.1), readout(1.0)
    torch.testing.assert_close(small(features), 0.1 * large(features))
    slopes = [
        torch.autograd.grad(module(features).sum(), module.network[-1].weight)[0]
        for module in (small, large)
    ]
    torch.testing.assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize(("n_layers", "n_hidden"), [(1, 8), (2, 8), (3, (8, 4)), (4, 5)])
def test_shapes(linear, n_layers, n_hidden):
    readout = ChargeReadout(3, 2, n_layers, n_hidden, linear, 0.5)
    n_linear = sum(isinstance(module, nn.Linear) for module in readout.modules())
    assert n_linear == n_layers + linear
    features = torch.randn(7, 3)
    charges = readout(features)
    assert charges.shape == (7, 2)
    double = ChargeReadout(3, 2, n_layers, n_hidden, linear, 1.0)
    double.load_state_dict(readout.state_dict())
    torch.testing.assert_close(double(features), 2.0 * charges)


def test_atoms_are_read_independently():
    readout, features = ChargeReadout(4), torch.randn(6, 4)
    order = torch.randperm(6)
    torch.testing.assert_close(readout(features)[order], readout(features[order]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "`n_features` must be a whole number of at least 1, got 0"),
        ((4, 0), "`n_channels` must be a whole number of at least 1, got 0"),
        ((4, 1, -1), "`n_layers` must be a whole number of at least 1, got -1"),
        ((4, 1, 3, (8, 4, 2)), r"`n_hidden` must give 2 widths .* got \[8, 4, 2\]"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChargeReadout(*arguments)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 4, 1)])
def test_bad_features(shape):
    with pytest.raises(ValueError, match=r"`desc` must have shape \[n_atoms, 4\]"):
        ChargeReadout(4)(torch.rand(shape))


@pytest.mark.parametrize("add_linear_nn", [True, False])
def test_negation(add_linear_nn):
    """Also of biases, and of each term."""
    readout = ChargeReadout(5, n_channels=2, add_linear_nn=add_linear_nn)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.normal_()
    features = torch.randn(4, 5)
    before = readout(features).detach()
    readout.negate()
    torch.testing.assert_close(readout(features), -before, rtol=0, atol=0)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_charges_of_elements(n_channels):
    """They start at zero, are added to what is read, and have gradients from the start."""
    readout = ChargeReadout(4, n_channels, n_elements=3)
    features, elements = torch.randn(5, 4), torch.tensor([0, 2, 2, 0, 1])
    start = readout(features, elements)
    torch.testing.assert_close(start, AtomReadout.forward(readout, features))
    start.square().sum().backward()
    assert (readout.of_elements.charges.grad.abs() > 0).all()
    with torch.no_grad():
        readout.of_elements.charges.copy_(torch.arange(3.0)[:, None] + torch.zeros(n_channels))
    added = readout(features, elements) - start
    torch.testing.assert_close(added, elements[:, None].expand(5, n_channels).float())
    before = readout(features, elements)
    readout.negate()
    torch.testing.assert_close(readout(features, elements), -before)
    with pytest.raises(ValueError, match="`element_charges` needs the elements of the atoms"):
        readout(features)


def test_charges_of_elements_in_les():
    torch.manual_seed(1)
    config = LESConfig.for_features({}, 4)
    les, features = Les(config), torch.randn(3, 4)
    positions, numbers = torch.rand(3, 3) * 4.0, torch.tensor([8, 1, 1])
    with torch.no_grad():
        les.atomwise.of_elements.charges[8] = -0.4
    with_oxygen = les(positions, desc=features, atomic_numbers=numbers)["raw_charges"]
    without = les(positions, desc=features, atomic_numbers=numbers * 0 + 1)["raw_charges"]
    expected = torch.tensor([[-0.4], [0.0], [0.0]])
    torch.testing.assert_close(with_oxygen - without, expected)
    with pytest.raises(ValueError, match="`element_charges` needs the elements of the atoms"):
        les(positions, desc=features)
