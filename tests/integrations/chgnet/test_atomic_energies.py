"""Reference energies per element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chgnet.model.composition_model import AtomRef
from torch import nn

from les.testing.structures import crystal, dimer
from les_chgnet import GraphConverter
from les_chgnet.atomic_energies import AtomicEnergies, shift_atomic_energies


@pytest.fixture
def upstreams():
    reference = AtomRef(is_intensive=True)
    reference.initialize_from("MPtrj")
    return reference


@pytest.fixture(scope="module")
def graphs():
    converter = GraphConverter(atom_graph_cutoff=4.0, bond_graph_cutoff=2.0)
    return [converter(atoms) for atoms in (dimer(), crystal(), dimer()[:1])]


@pytest.mark.parametrize("intensive", [True, False])
def test_same_energies_as_upstream(intensive, graphs):
    theirs = AtomRef(is_intensive=intensive)
    theirs.fitted = True
    ours = AtomicEnergies.like(theirs)
    assert torch.equal(ours(graphs), theirs(graphs))
    assert ours.is_intensive is intensive
    assert ours.fitted
    assert ours.fc.weight is not theirs.fc.weight


def test_energies_in_double_precision(upstreams, graphs):
    """Upstream's cannot be cast."""
    double = AtomicEnergies.like(upstreams).double()(graphs)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), upstreams(graphs))
    weights = upstreams.fc.weight[0].detach().double()
    assert double[0].item() == pytest.approx(float(4 * weights[0] + 2 * weights[7]) / 6, rel=1e-14)


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_trained_stays_so(trained, upstreams):
    upstreams.fc.requires_grad_(trained)
    assert AtomicEnergies.like(upstreams).fc.weight.requires_grad is trained


def test_without_reference_energies():
    assert AtomicEnergies.like(None) is None


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match=r"`composition_model` must be .* got a Linear"):
        AtomicEnergies.like(nn.Linear(3, 1))


# --- the shift


def shifted(upstreams, numbers, residuals):
    """What a shift adds to the energy of each element."""
    before = upstreams.fc.weight.detach().clone()
    shift_atomic_energies(upstreams, numbers, residuals)
    return (upstreams.fc.weight.detach() - before)[0].double()


WATER, PEROXIDE, HYDROGEN = [8, 1, 1], [8, 8, 1, 1], [1, 1]


def test_shift_of_each_element(upstreams):
    """Residuals are per atom: those of O -3 and H +0.5."""
    shift = shifted(upstreams, [WATER, PEROXIDE, HYDROGEN], [-2.0 / 3, -5.0 / 4, 0.5])
    assert shift[0].item() == pytest.approx(0.5, abs=1e-5)
    assert shift[7].item() == pytest.approx(-3.0, abs=1e-5)
    shift[[0, 7]] = 0.0
    assert torch.equal(shift, torch.zeros(94, dtype=torch.float64))


def test_elements_in_fixed_proportions(upstreams):
    """The smallest shift: H and O share it as they share the composition, 2 : 1."""
    shift = shifted(upstreams, [WATER, WATER], [0.9, 1.1])
    assert (2 * shift[0] + shift[7]).item() / 3 == pytest.approx(1.0, abs=1e-5)
    assert shift[0].item() == pytest.approx(2 * shift[7].item(), rel=1e-4)


def test_least_squares(upstreams):
    """Noise that no shift can explain stays."""
    rng = np.random.default_rng(1)
    numbers = [WATER, PEROXIDE, HYDROGEN] * 30
    exact = np.array([-2.0 / 3, -5.0 / 4, 0.5] * 30)
    shift = shifted(upstreams, numbers, exact + 0.1 * rng.normal(size=90))
    assert shift[0].item() == pytest.approx(0.5, abs=0.05)
    assert shift[7].item() == pytest.approx(-3.0, abs=0.15)


def test_heaviest_element(upstreams):
    assert shifted(upstreams, [[94]], [2.0])[93].item() == pytest.approx(2.0, abs=1e-5)


def test_shifted_energies_explain_the_data(upstreams, graphs):
    upstreams.requires_grad_(False)
    target = upstreams(graphs).detach() + torch.tensor([1.0, 1.0, -2.0])
    numbers = [graph.atomic_number.tolist() for graph in graphs]
    residuals = (target - upstreams(graphs).detach()).tolist()
    shift_atomic_energies(upstreams, numbers, residuals)
    torch.testing.assert_close(upstreams(graphs).detach(), target, rtol=0, atol=1e-5)
    assert not upstreams.fc.weight.requires_grad
