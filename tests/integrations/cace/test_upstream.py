"""The module for an installed ``cace``, in a stand-in for its container."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch
from torch import nn

from les import Ewald
from les.backends import BackendError
from les.testing.structures import crystal, dimer
from les_cace import Representation
from les_cace.batches import collate, to_structure
from les_cace.upstream import LESModule, require_upstream


class ShortRange(nn.Module):
    """Stands for upstream's readout of an energy."""

    model_outputs = ("SR_energy",)
    required_derivatives = ()

    def forward(self, data, training=False):
        atoms = data["node_feats"].flatten(1).mean(dim=1)
        data["SR_energy"] = (
            torch.zeros(len(data["cell"]) // 3).to(atoms).index_add(0, data["batch"], atoms)
        )
        return data


class Potential(nn.Module):
    """Stands for ``NeuralNetworkPotential``: modules that share a dictionary."""

    def __init__(self, representation, output_modules):
        super().__init__()
        self.representation = representation
        self.output_modules = nn.ModuleList(output_modules)
        self.required = {x for module in output_modules for x in module.required_derivatives}

    def forward(self, data, training=False):
        for key in self.required:
            data[key].requires_grad_()
        cell = data["cell"].view(-1, 3, 3)
        neighbours = data["neighbours"]
        cutoff = self.representation.cutoff
        vectors = neighbours.vectors(data["positions"], cell, data["batch"], cutoff)
        element = self.representation.elements(data["numbers"])
        data["node_feats"] = self.representation(vectors, neighbours.sender, element)
        for module in self.output_modules:
            data = module(data, training=training)
            assert set(module.model_outputs) <= set(data)
        data["energy"] = data["SR_energy"] + data["ewald_potential"]
        (gradient,) = torch.autograd.grad(data["energy"].sum(), data["positions"])
        data["forces"] = -gradient
        return data


@pytest.fixture
def representation(small):
    torch.manual_seed(1)
    return Representation(**small).double()


def data_of(*structures, pbc=True):
    batch = collate([to_structure(atoms, 4.0) for atoms in structures])
    data = {
        "positions": batch.positions.clone(),
        "numbers": batch.numbers,
        "atomic_numbers": batch.numbers,
        "cell": batch.cell.reshape(-1, 3),
        "batch": batch.batch,
        "neighbours": batch.neighbours,
    }
    return {**data, "pbc": batch.pbc.reshape(-1)} if pbc else data


def test_charges_and_energy(representation):
    module = LESModule(representation.n_features, {"sigma": 1.2}).double()
    potential = Potential(representation, [ShortRange(), module])
    structures = [crystal(), dimer()]
    out = potential(data_of(*structures))
    positions, charges = out["positions"].detach(), out["LES_charge"].detach()
    pbc = torch.tensor([[True] * 3, [False] * 3])
    expected, _ = Ewald(sigma=1.2)(
        charges, positions, out["cell"].view(-1, 3, 3), out["batch"], pbc
    )
    torch.testing.assert_close(out["ewald_potential"], expected)
    assert out["ewald_potential"].abs().min() > 1e-8


def test_forces(representation):
    module = LESModule(representation.n_features, {"output_scaling_factor": 1.0}).double()
    potential = Potential(representation, [ShortRange(), module])
    force = potential(data_of(crystal()))["forces"][1, 2]
    energies = []
    for shift in (1e-4, -1e-4):
        moved = crystal()
        moved.positions[1, 2] += shift
        energies.append(potential(data_of(moved))["energy"].detach())
    expected = -(energies[0] - energies[1]) / 2e-4
    torch.testing.assert_close(force, expected[0], rtol=1e-6, atol=1e-8)


def test_channels(representation):
    module = LESModule(representation.n_features, {"n_channels": 4}).double()
    data = data_of(crystal())
    out = Potential(representation, [ShortRange(), module])(data)
    assert out["LES_charge"].shape == (len(data["numbers"]), 4)
    assert out["ewald_potential"].shape == (1,)


def test_molecule_in_a_box_stays_open(representation):
    """Upstream gives it another, large cell; what counts is pbc."""
    module = LESModule(representation.n_features).double()
    potential = Potential(representation, [ShortRange(), module])
    boxed = data_of(dimer())
    boxed["cell"] = 200.0 * torch.eye(3, dtype=torch.float64)
    expected = potential(data_of(dimer()))["ewald_potential"]
    torch.testing.assert_close(potential(boxed)["ewald_potential"], expected)


def test_boundary_condition_must_be_known(representation):
    without = Potential(
        representation, [ShortRange(), LESModule(representation.n_features).double()]
    )
    with pytest.raises(ValueError, match=r"hold no `pbc`.*`periodic`"):
        without(data_of(crystal(), pbc=False))
    torch.manual_seed(2)
    said = LESModule(representation.n_features, periodic=True).double()
    torch.manual_seed(2)
    given = LESModule(representation.n_features).double()
    actual = Potential(representation, [ShortRange(), said])(data_of(crystal(), pbc=False))
    expected = Potential(representation, [ShortRange(), given])(data_of(crystal()))
    torch.testing.assert_close(actual["ewald_potential"], expected["ewald_potential"])


def test_charges_of_elements_need_the_elements(representation):
    without = data_of(crystal())
    del without["atomic_numbers"]
    potential = Potential(
        representation, [ShortRange(), LESModule(representation.n_features).double()]
    )
    with pytest.raises(ValueError, match=r"hold no `atomic_numbers`, which `element_charges` nee"):
        potential(without)
    module = LESModule(representation.n_features, {"element_charges": False}).double()
    assert module.les.atomwise.of_elements is None
    Potential(representation, [ShortRange(), module])(without)


def test_all_weights_exist_from_the_start(representation):
    module = LESModule(representation.n_features)
    before = [id(parameter) for parameter in module.parameters()]
    Potential(representation, [ShortRange(), module.double()])(data_of(crystal()))
    assert [id(parameter) for parameter in module.parameters()] == before


def test_upstream_is_told_from_the_program_of_that_name(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "cace"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cace", None)
    with pytest.raises(BackendError, match="cace is not installed"):
        require_upstream()
    missing = ModuleNotFoundError("no module", name="matscipy_of_upstream")
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(missing))
        with pytest.raises(BackendError, match="its import needs 'matscipy_of_upstream'"):
            require_upstream()
    monkeypatch.setitem(sys.modules, "cace", types.ModuleType("cace"))
    with pytest.raises(BackendError, match=r"another program.*circuits"):
        require_upstream()
    atomistic = types.ModuleType("cace.models.atomistic")
    atomistic.NeuralNetworkPotential = Potential
    package = types.ModuleType("cace")
    package.__path__ = []
    models = types.ModuleType("cace.models")
    models.__path__ = []
    for name, module in (
        ("cace", package),
        ("cace.models", models),
        (atomistic.__name__, atomistic),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    assert require_upstream() is Potential
