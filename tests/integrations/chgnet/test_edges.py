"""Where CHGNet takes features from other atoms: every kind of model, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from chgnet.model.layers import AtomConv

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer
from les_chgnet import CHGNetLES, LESCalculator, edges
from les_chgnet.weights import PRETRAINED

#: Arguments of models that gather differently.
MODELS = {
    "all": {},
    "four layers": {"n_conv": 4},
    "one layer": {"n_conv": 1},
    "fixed angles": {"update_angle": False},
    "fixed bonds": {"update_bond": False, "update_angle": False},
    "short angles": {"bond_graph_cutoff": 0.5},
    "graphs in Python": {"graph_converter_algorithm": "legacy"},
    "normalised layers": {"conv_norm": "layer", "mlp_out_bias": True},
}


#: The mean of all charges in a crystal does not feel one atom, that in a finite chain does.
FREE = {"neutrality": "none"}


@pytest.fixture
def make(chgnet_arguments, scale_charges):
    def make(**arguments):
        torch.manual_seed(7)
        model = CHGNetLES(**{**chgnet_arguments, **arguments, "les_arguments": FREE})
        scale_charges(model, 40.0)
        return model.double().eval()

    return make


def chain(period=2.6, symbols="HOH"):
    """Molecules along a line; the nearest images of an atom are its neighbours."""
    positions = [[0.0, 0.0, 0.0], [0.9, 0.5, -0.3], [1.9, -0.2, 0.8]][: len(symbols)]
    cell = [[period, 0.2, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 30.0]]
    return Atoms(symbols, positions, cell=cell, pbc=True)


def evaluated(model, structures, method=True):
    graphs = [model.graph_converter(atoms) for atoms in structures]
    return model(graphs, return_bec=method)


def born_effective_charges(model, atoms, method=True):
    return evaluated(model, [atoms], method)["bec"][0].detach().numpy()


def summed(model, atoms, atom, axis, receptive_field):
    """Over the charges that an atom changes, at their distances from it, ``[3]``."""
    large = atoms.repeat((int(2.0 * receptive_field / atoms.cell[0, 0]) + 1, 1, 1))
    arms = large.get_distances(atom, range(len(large)), mic=True, vector=True)
    calculator = LESCalculator(model, sign=1, use_device="cpu")

    def changed(shift):
        moved = large.copy()
        moved.positions[atom, axis] += shift
        return arms.T @ results_of(calculator, moved)["charges"]

    charges = results_of(calculator, atoms)["charges"]
    return derivative(changed, 3e-4) + (charges[atom] - charges.mean()) * np.eye(3)[axis]


@pytest.mark.parametrize("name", MODELS)
def test_sum_over_the_charges_of_a_crystal(make, name):
    model, atoms = make(**MODELS[name]), chain()
    found = born_effective_charges(model, atoms)
    for atom, axis in ((0, 0), (1, 1)):
        expected = summed(model, atoms, atom, axis, 16.0)
        np.testing.assert_allclose(found[atom, :, axis], expected, rtol=0, atol=1e-8)
    assert np.abs(found - born_effective_charges(model, atoms, "phase")).max() > 1e-3


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_models(scale_charges, name):
    torch.manual_seed(8)
    model = CHGNetLES.from_pretrained(name, FREE).double().eval()
    scale_charges(model, 20.0)
    atoms = chain(4.1, ["Mn", "O"])
    atoms.positions *= 2.0
    found = born_effective_charges(model, atoms)
    expected = summed(model, atoms, 1, 0, 24.0)
    np.testing.assert_allclose(found[1, :, 0], expected, rtol=0, atol=1e-8)
    assert np.abs(found - born_effective_charges(model, atoms, "phase")).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_molecules_have_the_derivative_of_their_dipole(make, name):
    """That is what the published formula gives where nothing is periodic."""
    model = make(**MODELS[name])
    np.testing.assert_allclose(
        born_effective_charges(model, dimer()),
        born_effective_charges(model, dimer(), "phase"),
        rtol=0,
        atol=1e-12,
    )


def test_neighbours_that_are_images(make):
    """All neighbours of this atom are images of itself, and change its charge as they move."""
    model, atoms = make(), chain(2.1, "O")
    found = born_effective_charges(model, atoms)
    assert np.abs(found).max() > 1e-2
    for axis in range(3):
        expected = summed(model, atoms, 0, axis, 12.0)
        np.testing.assert_allclose(found[0, :, axis], expected, rtol=0, atol=1e-8)


def test_single_precision(make):
    model = make()
    single = copy.deepcopy(model).float()
    for atoms in (crystal(), dimer()):
        np.testing.assert_allclose(
            born_effective_charges(single, atoms),
            born_effective_charges(model, atoms),
            rtol=0,
            atol=2e-5,
        )


def test_calculator_takes_the_method(make):
    model, atoms = make(), crystal()
    for bec, method in ((True, "exact"), ("exact", "exact"), ("phase", "phase")):
        calculator = LESCalculator(model, bec=bec, sign=1, use_device="cpu")
        found = results_of(calculator, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(
            found, born_effective_charges(model, atoms, method), rtol=0, atol=1e-12
        )
    with pytest.raises(ValueError, match="one of exact, phase, got 'published'"):
        LESCalculator(model, bec="published", use_device="cpu")
    with pytest.raises(ValueError, match="one of exact, phase, got 'published'"):
        evaluated(model, [atoms], "published")


def test_training(make):
    """Derivatives with respect to the weights, of several structures at once."""
    model = make().train()
    structures = [crystal(), dimer()]
    weights = [model.bond_weights_bg.weight, model.les.atomwise.linear.weight]

    def loss():
        return torch.cat(evaluated(model, structures)["bec"]).square().sum()

    for weight in weights:
        (found,) = torch.autograd.grad(loss(), weight)

        def changed(shift, weight=weight):
            weight.data[0, 0] += shift
            value = loss().item()
            weight.data[0, 0] -= shift
            return value

        expected = derivative(changed)
        assert abs(expected) > 1e-5
        assert found[0, 0].item() == pytest.approx(expected, rel=1e-6)


class OtherConv(AtomConv):
    """Upstream's layer under another name."""


@pytest.mark.parametrize("place", ["atom_conv_layers", "bond_basis_expansion"])
def test_unknown_layers_are_refused(make, place):
    model = make()
    modules = getattr(model, place)
    (modules[1] if place == "atom_conv_layers" else modules).__class__ = OtherConv
    with pytest.raises(ValueError, match="CHGNet model with OtherConv: it is not known where"):
        evaluated(model, [dimer()])


def test_other_releases_are_refused(make, monkeypatch):
    """Whose layers gather otherwise, or whose encoder is called otherwise."""
    model = make()
    with monkeypatch.context() as patch:
        steps = edges.KNOWN_LAYERS[AtomConv]
        patch.setitem(edges.KNOWN_LAYERS, AtomConv, (*steps, edges.Step("gather", "shells")))
        with pytest.raises(ValueError, match="model with the AtomConv of another release"):
            evaluated(model, [dimer()])
    with monkeypatch.context() as patch:
        patch.setattr(edges, "ENCODED", {*edges.ENCODED, "shells"})
        with pytest.raises(ValueError, match="model with the BondEncoder of another release"):
            evaluated(model, [dimer()])


def test_nothing_is_left_behind(make, monkeypatch):
    """By an evaluation that fails within a layer, and one that does not."""
    model, atoms = make(), dimer()
    expected = born_effective_charges(model, atoms)
    layer = model.atom_conv_layers[1]

    def fail(*args, **kwargs):
        raise RuntimeError("within the layer")

    with monkeypatch.context() as patch:
        patch.setattr(layer.twoBody_atom, "forward", fail)
        with pytest.raises(RuntimeError, match="within the layer"):
            evaluated(model, [atoms])
    assert torch.overrides._len_torch_function_stack() == 0
    for module in model.modules():
        assert not module._forward_pre_hooks
    np.testing.assert_array_equal(born_effective_charges(model, atoms), expected)
