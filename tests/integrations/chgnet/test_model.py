"""The CHGNet model with LES: the shared tests, and what is particular to CHGNet."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms, units
from chgnet.model import CHGNet

from les import LESConfig
from les.testing import (
    AdapterTests,
    ChargeStateTests,
    EquilibrationTests,
    FreeChargesTests,
    SlabTests,
    TotalChargeTests,
)
from les.testing.adapter import calculators_of, results_of
from les.testing.charge_states import EMBEDDED, draw_embeddings, in_state
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer, structures
from les_chgnet import CHGNetLES, LESCalculator, save_model
from les_chgnet.graphs import GraphConverter
from les_chgnet.structures import to_structure


class TestCHGNet(AdapterTests, SlabTests):
    receptive_field = 12.0  # three layers

    @pytest.fixture
    def calculator(self, model, scale_charges):
        return calculators_of(LESCalculator, model, scale_charges, use_device="cpu")

    @pytest.fixture
    def upstream_calculator(self, short_range_model, upstream):
        return lambda dtype="float64": upstream(short_range_model, dtype)

    @pytest.fixture
    def reloaded_calculator(self, model, tmp_path):
        save_model(model, tmp_path / "model.pth.tar")
        return LESCalculator(tmp_path / "model.pth.tar", dtype="float64", use_device="cpu")

    @pytest.fixture
    def predict_batch(self, double_model):
        def predict(structures):
            graphs = [double_model.graph_converter(atoms) for atoms in structures]
            out = double_model(graphs, task="ef")
            return {
                "energy": (out["e"] * out["atoms_per_graph"]).detach().numpy(),
                "les_energy": out["les_energy"].detach().numpy(),
                "forces": torch.cat(out["f"]).detach().numpy(),
                "charges": torch.cat(list(out["charges"])).detach().numpy(),
            }

        return predict

    @pytest.fixture
    def ewald(self, model):
        return model.les.ewald


class TestTotalCharge(TotalChargeTests):
    """The same model, whose charges sum to the total charge."""

    calculator = TestCHGNet.calculator
    predict_batch = TestCHGNet.predict_batch

    @pytest.fixture
    def model(self, model):
        return changed(model, neutrality="shift", sign="trained")

    @pytest.fixture
    def double_model(self, double_model):
        return changed(double_model, neutrality="shift", sign="trained")


class TestChargeStates(ChargeStateTests):
    """The same model, whose features also know the charge state."""

    calculator = TestCHGNet.calculator
    predict_batch = TestCHGNet.predict_batch
    reloaded_calculator = TestCHGNet.reloaded_calculator

    @pytest.fixture
    def model(self, short_range_model, scale_charges):
        torch.manual_seed(6)
        own = CHGNetLES.from_short_range(short_range_model, EMBEDDED).eval()
        scale_charges(own, 20.0)
        draw_embeddings(own)
        return own

    @pytest.fixture
    def double_model(self, model):
        return copy.deepcopy(model).double()

    def test_graphs_that_do_not_tell(self, double_model, short_range_model):
        """Those of upstream know neither charge nor spin, nor do those made for another model."""
        structure, own = to_structure(crystal("cubic")), GraphConverter.like
        converters = short_range_model.graph_converter, own(short_range_model.graph_converter)
        for converter in converters:
            with pytest.raises(ValueError, match="does not tell the total_charge and the spin"):
                double_model.float()([converter(structure)], task="e")

    def test_crystals_of_pymatgen(self, model):
        with pytest.raises(ValueError, match="a crystal of pymatgen has no spin multiplicity"):
            model.graph_converter(to_structure(in_state(crystal("cubic"))))


class TestEquilibration(EquilibrationTests):
    """The same short-range part, with equilibrated charges."""

    calculator = TestCHGNet.calculator
    predict_batch = TestCHGNet.predict_batch

    @pytest.fixture
    def model(self, short_range_model, scale_charges):
        torch.manual_seed(6)
        settings = {"charge_equilibration": True, "sign": "trained"}
        own = CHGNetLES.from_short_range(short_range_model, settings).eval()
        scale_charges(own, 40.0)
        return own

    @pytest.fixture
    def double_model(self, model):
        return copy.deepcopy(model).double()


class TestFreeCharges(FreeChargesTests):
    """The same model, whose charges keep their mean."""

    calculator = TestCHGNet.calculator
    predict_batch = TestCHGNet.predict_batch

    @pytest.fixture
    def model(self, model):
        return changed(model, neutrality="none")

    @pytest.fixture
    def double_model(self, double_model):
        return changed(double_model, neutrality="none")


def changed(model, **settings):
    """A copy with other settings."""
    own = copy.deepcopy(model)
    own.les._apply_settings(dataclasses.replace(own.les.config(), **settings))
    own.load_state_dict(own.state_dict())
    return own


# --- outputs of the model


def test_magnetic_moments_are_upstreams(model, short_range_model, upstream):
    for atoms in (crystal("triclinic"), dimer()):
        # Without a skin pairs come in upstream's order, and are added up in it.
        calculator = LESCalculator(model, dtype="float64", use_device="cpu", skin=0.0)
        actual = results_of(calculator, atoms)
        expected = results_of(upstream(short_range_model), atoms)
        assert actual["magmoms"].max() > 1e-3
        np.testing.assert_array_equal(actual["magmoms"], expected["magmoms"])


@pytest.mark.parametrize("name", ["open", "triclinic"])
def test_site_energies_have_the_long_range_part(model, short_range_model, upstream, name):
    atoms = structures()[name]
    actual = results_of(LESCalculator(model, dtype="float64", use_device="cpu"), atoms)
    expected = results_of(upstream(short_range_model), atoms)
    change = actual["energies"] - expected["energies"]
    assert np.abs(change).min() > 1e-4  # of every atom
    assert change.sum() == pytest.approx(actual["les_energy"], rel=1e-9)


def test_open_structures_have_no_stress(double_model):
    graphs = [double_model.graph_converter(atoms) for atoms in (dimer(), crystal("cubic"))]
    out = double_model(graphs, task="efs")
    assert not out["s"][0].any()
    assert out["s"][1].abs().max() > 1e-3
    assert out["f"][0].abs().max() > 1e-3


def test_mixed_batch(double_model):
    """What the shared tests do not compare; the sign of charges is that of the model."""
    several = [crystal("left-handed"), dimer(), Atoms("O", [[1.0, 2.0, 3.0]]), crystal("cubic")]
    graphs = [double_model.graph_converter(atoms) for atoms in several]
    options = {"task": "efsm", "return_site_energies": True, "return_bec": True}
    together = double_model(graphs, **options)
    for index, graph in enumerate(graphs):
        alone = double_model([graph], **options)
        for key in ("e", "f", "s", "m", "site_energies", "les_energy", "charges", "dipole", "bec"):
            torch.testing.assert_close(together[key][index], alone[key][0], rtol=0, atol=1e-9)


def test_born_effective_charges_change_nothing_else(double_model):
    graphs = [double_model.graph_converter(atoms) for atoms in (dimer(), crystal())]
    plain = double_model(graphs, task="efsm")
    with_bec = double_model(graphs, task="efsm", return_bec=True)
    assert with_bec.keys() - plain.keys() == {"bec"}
    for key in ("e", "les_energy", "dipole"):
        torch.testing.assert_close(with_bec[key], plain[key], rtol=0, atol=1e-10)
    for key in ("f", "s", "m", "charges"):
        for one, other in zip(with_bec[key], plain[key], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_atoms_beyond_the_cutoff_attract_and_repel(double_model):
    """Coulomb's law, between atoms that have no bond at all."""
    distance = 12.0
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, distance]])
    results = results_of(LESCalculator(double_model, use_device="cpu"), atoms)
    first, second = results["charges"]
    force = units._e / (4 * np.pi * units._eps0) * 1e10 * first * second / distance**2
    assert abs(force) > 1e-4
    np.testing.assert_allclose(
        results["forces"], [[0, 0, -force], [0, 0, force]], rtol=1e-6, atol=1e-12
    )


def test_isolated_atom_beside_a_molecule(double_model):
    calculator = LESCalculator(double_model, use_device="cpu")
    atoms = dimer() + Atoms("O", [[0.5, 0.2, 9.5]])
    forces = results_of(calculator, atoms)["forces"]
    assert np.abs(forces[6]).max() > 1e-4

    def energy(shift):
        moved = atoms.copy()
        moved.positions[6, 2] += shift
        return results_of(calculator, moved)["energy"]

    assert forces[6, 2] == pytest.approx(-derivative(energy), rel=0, abs=1e-7)


@pytest.mark.parametrize(
    ("is_intensive", "composition_model"),
    [(True, "MPtrj"), (False, "MPF"), (True, None), (False, None)],
)
def test_energies_per_atom_or_in_total(chgnet_arguments, is_intensive, composition_model):
    """As the model's argument says; and with or without reference energies."""
    model = CHGNetLES(
        **chgnet_arguments, is_intensive=is_intensive, composition_model=composition_model
    )
    model.double().eval()
    atoms = crystal()
    out = model([model.graph_converter(atoms)], return_site_energies=True)
    total = out["e"].item() * (len(atoms) if is_intensive else 1)
    assert out["site_energies"][0].sum().item() == pytest.approx(total, rel=1e-9)
    results = results_of(LESCalculator(model, use_device="cpu"), atoms)
    assert results["energy"] == pytest.approx(total, rel=1e-12)
    assert (abs(total) < 10.0) == (composition_model is None)  # references are tens of eV


def test_epsilon_factor_scales_charges_but_not_energies(short_range_model):
    outputs = []
    for factor in (1.0, 4.0):
        torch.manual_seed(1)
        model = CHGNetLES.from_short_range(short_range_model, {"epsilon_factor": factor})
        graphs = [model.graph_converter(atoms) for atoms in (crystal(), dimer())]
        outputs.append(model(graphs, task="efs", return_bec=True))
    plain, scaled = outputs
    for key, factor in {
        "e": 1,
        "les_energy": 1,
        "f": 1,
        "charges": 2,
        "dipole": 2,
        "bec": 2,
    }.items():
        for one, other in zip(scaled[key], plain[key], strict=True):
            assert one.abs().max() > 1e-6
            torch.testing.assert_close(one, factor * other)


def test_wires_are_refused_by_name(double_model):
    wire = crystal("cubic")
    wire.pbc = [True, False, False]
    graphs = [double_model.graph_converter(atoms) for atoms in (dimer(), wire)]
    with pytest.raises(ValueError, match=r"`pbc` must have none, two or three.*structure 1"):
        double_model(graphs)


# --- construction


class TestFromShortRange:
    def test_energies_are_kept_up_to_small_charges(self, short_range_model):
        longer = CHGNetLES.from_short_range(short_range_model).eval()
        graphs = [longer.graph_converter(atoms) for atoms in (dimer(), crystal())]
        before, after = short_range_model(graphs)["e"], longer(graphs)
        change = (after["e"] - before) * 6
        torch.testing.assert_close(change, after["les_energy"], rtol=0, atol=1e-5)
        assert (after["les_energy"].abs() > 0).all()
        assert (after["les_energy"].abs() < 0.1 * 6).all()  # less than 0.1 eV/atom

    def test_the_given_model_is_not_changed(self, short_range_model):
        before = {key: value.clone() for key, value in short_range_model.state_dict().items()}
        longer = CHGNetLES.from_short_range(short_range_model)
        for parameter in longer.parameters():
            parameter.data.zero_()
        torch.testing.assert_close(dict(short_range_model.state_dict()), before, rtol=0, atol=0)

    def test_settings_and_dtype(self, short_range_model):
        double = copy.deepcopy(short_range_model).double()
        longer = CHGNetLES.from_short_range(double, LESConfig(sigma=1.3, dl=1.7))
        assert {parameter.dtype for parameter in longer.parameters()} == {torch.float64}
        config = longer.les.config()
        assert (config.sigma, config.dl, config.cutoff) == (1.3, 1.7, "smooth")

    def test_fitted_reference_energies_are_kept(self, chgnet_arguments):
        """Upstream's recipe of fine-tuning replaces them in a trained model."""
        from chgnet.model.composition_model import AtomRef

        fitted = AtomRef()
        fitted.initialize_from("MPtrj")
        with torch.no_grad():
            fitted.fc.weight[0, [0, 7]] = torch.tensor([-13.0, -400.0])
        plain = CHGNet(**chgnet_arguments)
        plain.composition_model = fitted
        longer = CHGNetLES.from_short_range(plain)
        graph = longer.graph_converter(dimer())
        change = (longer([graph])["e"] - plain([graph])["e"]).item()
        assert plain([graph])["e"].item() < -140.0
        assert abs(change) < 0.1

    def test_kind_of_reference_energies_is_kept(self, short_range_model):
        """Whatever was done to the model since it was made."""
        plain = copy.deepcopy(short_range_model)
        plain.composition_model.requires_grad_(True)
        assert CHGNetLES.from_short_range(plain).composition_model.fc.weight.requires_grad
        plain.composition_model = None
        assert CHGNetLES.from_short_range(plain).composition_model is None

    def test_only_short_range_models(self, model):
        with pytest.raises(TypeError, match="must be a short-range CHGNet, got CHGNetLES"):
            CHGNetLES.from_short_range(model)
        with pytest.raises(TypeError, match="must be a short-range CHGNet, got Linear"):
            CHGNetLES.from_short_range(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_first": False}, "`mlp_first` must be true with LES"),
        ({"les_arguments": {"sigmaa": 2.0}}, "unknown key 'sigmaa'; did you mean 'sigma'"),
        ({"les_arguments": {"sigma": -1.0}}, "`sigma` must be a positive number"),
        ({"les_arguments": {"n_channels": 4}}, "`n_channels` has no effect on this model"),
        ({"les_arguments": {"n_features": 4}}, "`n_features` follows from the model"),
    ],
)
def test_bad_arguments(chgnet_arguments, options, message):
    with pytest.raises(ValueError, match=message):
        CHGNetLES(**chgnet_arguments, **options)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies(double_model, scale_charges, how):
    """Copies are whole, and their own: also after the model was used, and failed."""
    graphs = [double_model.graph_converter(atoms) for atoms in (dimer(), crystal())]
    expected = double_model(graphs, task="ef")
    slab = crystal("cubic")
    slab.pbc = [True, False, False]
    with pytest.raises(ValueError, match="pbc"):
        double_model([double_model.graph_converter(slab)])
    twin = (
        copy.deepcopy(double_model)
        if how == "deepcopy"
        else pickle.loads(pickle.dumps(double_model))
    )
    actual = twin(graphs, task="ef")
    for key in ("e", "les_energy"):
        assert torch.equal(actual[key], expected[key])
    scale_charges(twin, 0.0)
    assert not twin(graphs)["les_energy"].any()
    assert torch.equal(double_model(graphs)["les_energy"], expected["les_energy"])
