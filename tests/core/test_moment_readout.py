"""Readouts of moments from features that turn, without a model."""

from __future__ import annotations

import copy

import pytest
import torch
from ase.data import chemical_symbols

from les import LESConfig
from les.element_baselines import OXIDATION_STATES, SYMBOLS, ElementBaselines
from les.moment_readout import (
    OUTPUT_SCALE,
    FeatureCounts,
    Features,
    MomentReadout,
    traceless_basis,
)

ALL = {
    "use_dipole": True,
    "use_quadrupole": True,
    "use_induced_charge": True,
    "use_induced_dipole": True,
    "use_anisotropic_polarizability": True,
    "self_consistent": True,
}


@pytest.fixture
def features():
    sizes = ((5, 4), (5, 3, 3), (5, 2, 5))
    return Features(*(torch.randn(size, dtype=torch.float64) for size in sizes))


@pytest.fixture
def readout():
    torch.manual_seed(2)
    return MomentReadout(LESConfig(**ALL), FeatureCounts(4, 3, 2)).double()


def test_moments_turn_and_responses_are_not_negative(features, readout):
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    basis = traceless_basis(features.scalars)
    matrices = torch.einsum("ncm,mab->ncab", features.tensors, basis)
    turned = Features(
        features.scalars,
        features.vectors @ turn.T,
        torch.einsum("ncab,mab->ncm", turn @ matrices @ turn.T, basis),
    )
    before, after = readout(features), readout(turned)
    torch.testing.assert_close(after.dipoles, before.dipoles @ turn.T)
    torch.testing.assert_close(after.quadrupoles, turn @ before.quadrupoles @ turn.T)
    torch.testing.assert_close(after.alphas, turn @ before.alphas @ turn.T)
    torch.testing.assert_close(after.kappas, before.kappas)
    trace = before.quadrupoles.diagonal(dim1=1, dim2=2).sum(dim=1)
    torch.testing.assert_close(trace, torch.zeros_like(trace))
    for layer in (readout.kappas, readout.alphas):
        layer.network[-1].bias.data.fill_(-40.0)  # whatever is read
    extreme = readout(features)
    assert extreme.kappas.min() > 0.0
    assert torch.linalg.eigvalsh(extreme.alphas).min() > 0.0
    last = readout.kappas.network[-1]
    for weights in (last.weight, readout.kappas.linear.weight):
        weights.data.zero_()
    last.bias.data.fill_(-1.0 / OUTPUT_SCALE)
    torch.testing.assert_close(readout(features).kappas, torch.zeros(5).double())


def test_basis_is_orthonormal():
    basis = traceless_basis(torch.zeros(1, dtype=torch.float64)).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64))


def test_elements_are_those_of_ase():
    assert chemical_symbols == SYMBOLS
    assert len(OXIDATION_STATES) == len(SYMBOLS)
    for group, state in (("Li Na K Rb Cs", 1), ("Be Mg Ca Sr Ba", 2), ("F Cl Br I", -1)):
        assert {OXIDATION_STATES[SYMBOLS.index(symbol)] for symbol in group.split()} == {state}
    with pytest.raises(ValueError, match="named by their chemical symbols, got 'Ow'"):
        ElementBaselines.of(LESConfig(use_fixed_atomic_charges=True), ["H", "Ow"])


def test_negation(features, readout):
    opposite = copy.deepcopy(readout)
    opposite.negate()
    before, after = readout(features), opposite(features)
    torch.testing.assert_close(after.dipoles, -before.dipoles)
    torch.testing.assert_close(after.quadrupoles, -before.quadrupoles)
    torch.testing.assert_close(after.alphas, before.alphas)


def test_charges_alone_have_no_readout():
    counts = FeatureCounts(4, 3, 2)
    assert MomentReadout.of(LESConfig(), counts) is None
    with pytest.raises(ValueError, match="`use_atomic_alpha` needs `use_induced_dipole`"):
        MomentReadout.of(LESConfig(use_atomic_alpha=True), counts)
    with pytest.raises(ValueError, match=r"vectors \(1o\), and this model has none"):
        MomentReadout.of(LESConfig(use_dipole=True), FeatureCounts(4, 0, 2))
    with pytest.raises(ValueError, match="can be neither compiled nor exported"):
        torch.jit.script(MomentReadout(LESConfig(use_dipole=True), counts))
