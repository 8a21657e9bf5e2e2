"""The CACE model: the shared tests, and what is particular to it."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from ase.io import write

from les.data.requirements import Requirements
from les.data.total_charge import total_charge
from les.testing import (
    AdapterTests,
    ChargeStateTests,
    EquilibrationTests,
    FreeChargesTests,
    SlabTests,
    TotalChargeTests,
)
from les.testing.adapter import results_of
from les.testing.charge_states import EMBEDDED, draw_embeddings
from les.testing.earlier import AS_BEFORE, earlier_pickle, earlier_settings
from les.testing.fragments import in_fragments
from les.testing.structures import crystal, dimer, structures
from les_cace import CACE, LESCalculator, load_model, save_model
from les_cace.batches import collate, to_structure
from les_cace.data import LabelledStructures, collate_labelled
from les_cace.symmetrize import SumOfProducts, Symmetrizer


@pytest.fixture(scope="module")
def short_range(small):
    """A model without charges; tests must not change it."""
    torch.manual_seed(3)
    return CACE(small, atomic_energies=[-1.0, -3.0]).double().eval()


@pytest.fixture(scope="module")
def model(small, short_range):
    """The same model with charges, large enough to be seen."""
    torch.manual_seed(5)
    settings = {"output_scaling_factor": 0.3}
    with_charges = CACE(small, settings, atomic_energies=[-1.0, -3.0]).double().eval()
    with_charges.load_state_dict({**with_charges.state_dict(), **short_range.state_dict()})
    with torch.no_grad():
        with_charges.charge_readout.of_elements.charges.copy_(torch.tensor([[-0.15], [0.2]]))
    return with_charges


def without_charges(model):
    own = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in own.charge_readout.parameters():
            parameter.zero_()
    return own


class TestCACE(AdapterTests, SlabTests):
    @pytest.fixture
    def calculator(self, model):
        def make(dtype="float64", zero_charges=False, bec=False, **options):
            own = without_charges(model) if zero_charges else copy.deepcopy(model)
            return LESCalculator(own, dtype=dtype, bec=bec, **options)

        return make

    @pytest.fixture
    def upstream_calculator(self, short_range):
        return lambda dtype="float64": LESCalculator(
            copy.deepcopy(short_range), dtype=dtype, skin=0.0
        )

    @pytest.fixture
    def reloaded_calculator(self, model, tmp_path):
        save_model(model, tmp_path / "model.pt")
        return LESCalculator(tmp_path / "model.pt")

    @pytest.fixture
    def predict_batch(self, model):
        def predict(batch):
            cutoff = model.representation.cutoff
            states = [(total_charge(x), float(x.info.get("spin", 1))) for x in batch]
            each = [to_structure(x, cutoff, *state) for x, state in zip(batch, states)]
            out = model(collate(each))
            return {key: value.detach().numpy() for key, value in out.items()}

        return predict

    @pytest.fixture
    def ewald(self, model):
        return model.ewald


class TestTotalCharge(TotalChargeTests):
    """The same model, whose charges sum to the total charge."""

    calculator = TestCACE.calculator
    predict_batch = TestCACE.predict_batch

    @pytest.fixture
    def model(self, model):
        own = copy.deepcopy(model)
        own.les_config = dataclasses.replace(own.les_config, neutrality="shift", sign="trained")
        return own


class TestChargeStates(ChargeStateTests):
    """The same model, whose features also know the charge state."""

    calculator = TestCACE.calculator
    predict_batch = TestCACE.predict_batch
    reloaded_calculator = TestCACE.reloaded_calculator

    @pytest.fixture
    def model(self, small, model):
        arguments = {**model.arguments["les_arguments"], **EMBEDDED}
        own = CACE(small, arguments, atomic_energies=[-1.0, -3.0]).double().eval()
        own.load_state_dict({**own.state_dict(), **model.state_dict()})
        draw_embeddings(own)
        return own


class TestEquilibration(EquilibrationTests):
    """Another model, with equilibrated charges."""

    calculator = TestCACE.calculator
    predict_batch = TestCACE.predict_batch

    @pytest.fixture
    def model(self, model):
        torch.manual_seed(7)
        settings = {"charge_equilibration": True, "sign": "trained", "output_scaling_factor": 1.0}
        own = CACE(model.arguments["representation"], settings).double()
        own.load_state_dict({**own.state_dict(), **parts_but_charges(model)})
        return own

    def test_labelled_structures_have_their_fragments(self, model, tmp_path):
        """Also beside others without, in one batch, as when they are computed alone."""
        both = [in_fragments(crystal("triclinic")), dimer()]
        for atoms in both:
            atoms.info["energy"] = -1.0
        path = tmp_path / "both.xyz"
        write(path, both)
        asked = Requirements(total_charge=True)
        data = LabelledStructures(path, model.cutoff, ["energy"], asked)
        batch, _ = collate_labelled([data[0], data[1]])
        assert batch.fragment.tolist() == [1, 1, 1, 0, 0, 0, *[-1] * 6]
        charges = model.eval()(batch)["charges"].detach().numpy()
        for atoms, found in zip(both, np.split(charges, 2), strict=True):
            alone = results_of(LESCalculator(model), atoms)["charges"]
            np.testing.assert_allclose(found, alone, rtol=0, atol=1e-7)
        plain = LabelledStructures(path, model.cutoff, ["energy"], Requirements())
        assert collate_labelled([plain[0]])[0].fragment is None


def parts_but_charges(model):
    return {k: v for k, v in model.state_dict().items() if not k.startswith("charge_readout.")}


class TestFreeCharges(FreeChargesTests):
    """The same model, whose charges keep their mean."""

    calculator = TestCACE.calculator
    predict_batch = TestCACE.predict_batch

    @pytest.fixture
    def model(self, model):
        own = copy.deepcopy(model)
        own.les_config = dataclasses.replace(own.les_config, neutrality="none")
        return own


@pytest.mark.usefixtures("only_second_derivatives")
def test_double_backward(model):
    """A loss on energies, forces and stress has gradients for all parameters."""
    own = copy.deepcopy(model).train()
    batch = collate([to_structure(x, own.representation.cutoff) for x in structures().values()])

    def loss():
        out = own(batch, compute_stress=True)
        return sum((out[key] ** 2).sum() for key in ("energy", "forces", "stress"))

    parameters = dict(own.named_parameters())
    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), gradients):
        if name == "charge_readout.network.4.bias":  # one charge for all atoms, shifted away
            assert gradient.abs().max() < 1e-9
            continue
        assert gradient.abs().max() > 0.0, name
        index = int(gradient.abs().argmax())
        step = 1e-5 * max(1.0, float(parameter.detach().flatten()[index].abs()))
        with torch.no_grad():
            flat = parameter.view(-1)
            flat[index] += step
        above = loss().item()
        with torch.no_grad():
            flat[index] -= 2 * step
        below = loss().item()
        with torch.no_grad():
            flat[index] += step
        expected = (above - below) / (2 * step)
        assert gradient.flatten()[index].item() == pytest.approx(expected, rel=1e-4), name


def test_born_effective_charges_need_charges(short_range):
    batch = collate([to_structure(structures()["open"], 4.0)])
    with pytest.raises(ValueError, match="need a model with charges"):
        short_range(batch, compute_bec=True)


def test_reference_energies(small, short_range):
    without = CACE(small).double().eval()
    state = {**short_range.state_dict(), "atomic_energies": torch.zeros(2)}
    without.load_state_dict(state)
    batch = collate([to_structure(structures()["open"], 4.0)])
    difference = short_range(batch)["energy"] - without(batch)["energy"]
    assert difference.item() == pytest.approx(4 * -1.0 + 2 * -3.0)
    with pytest.raises(ValueError, match="must have 2 entries"):
        CACE(small, atomic_energies=[1.0])


def test_charges_from_a_representation_of_their_own(small):
    """All of its weights count, and it reaches farther than the other one."""
    model = CACE(small, {}, charge_representation={**small, "cutoff": 5.0, "max_l": 2}).double()
    assert model.cutoff == 5.0
    batch = collate([to_structure(structures()["triclinic"], model.cutoff)])
    gradients = torch.autograd.grad(
        model(batch)["les_energy"].sum(), list(model.charge_representation.parameters())
    )
    assert all(x.abs().max() > 0.0 for x in gradients)
    with pytest.raises(ValueError, match="needs `les_arguments`"):
        CACE(small, charge_representation=small)
    with pytest.raises(ValueError, match=r"must have `zs` = \[1, 8\], as the representation, got"):
        CACE(small, {}, charge_representation={**small, "zs": [8, 1]})


def test_settings_that_are_refused(small):
    for change, message in (
        ({"zs": [1, 1]}, "different atomic numbers"),
        ({"zs": []}, "`zs` must be a list of different atomic numbers"),
        ({"zs": 8}, "`zs` must be a list of different atomic numbers, got 8"),
        ({"zs": [1.7, 8]}, "different atomic numbers"),
        ({"zs": ["H", "O"]}, "different atomic numbers"),
        ({"message_types": ["Bchj"]}, r"must be a list of .*got \['Bchj'\]"),
        ({"message_types": "Bchi"}, "must be a list of .*got 'Bchi'"),
        ({"message_types": []}, "must not be empty with `num_message_passing`"),
        ({"message_hidden": 32}, "`message_hidden` must be a list of whole numbers"),
        ({"message_hidden": [0]}, "`message_hidden` must be a list of whole numbers"),
        ({"avg_num_neighbors": "ten"}, "`avg_num_neighbors` must be a number above 0"),
        ({"cutoff_exponent": 6.5}, "`cutoff_exponent` must be a whole number"),
        ({"cutoff": None}, "`cutoff` must be a number above 0, got None"),
        ({"max_nu": 5}, "1, 2, 3 or 4"),
        ({"n_rbf": 0}, "`n_rbf` must be a whole number of at least 1, got 0"),
        ({"max_l": -1}, "`max_l` must be a whole number of at least 0"),
        ({"n_atom_basis": "many"}, "`n_atom_basis` must be a whole number"),
        ({"cutoff": -4.0}, "`cutoff` must be a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            CACE({**small, **change})
    with pytest.raises(ValueError, match="did you mean 'sigma'"):
        CACE(small, {"sigmaa": 1.0})


def test_features_are_invariants(small):
    """Of products of numbers that belong to directions: compared with turned directions."""
    representation = CACE(small).double().representation
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    amounts = torch.randn(7, 5, generator=generator, dtype=torch.float64)

    def features(vectors):
        vectors = vectors.T.unsqueeze(1)  # of the neighbours of one atom
        lengths = torch.linalg.vector_norm(vectors, dim=0)
        return representation.symmetrizer(representation.monomials(vectors, lengths) @ amounts)

    turned = features(directions @ torch.as_tensor(turn).T)
    torch.testing.assert_close(turned, features(directions), rtol=0, atol=1e-10)


def test_unknown_elements(short_range):
    batch = collate([to_structure(structures()["open"], 4.0)])
    for number in (-8, 0, 2, 9, 79):
        numbers = batch.numbers.clone()
        numbers[2] = number
        with pytest.raises(ValueError, match=rf"must be of `zs` = \[1, 8\], got \[{number}\]"):
            short_range(batch._replace(numbers=numbers))


@pytest.mark.parametrize("max_nu", [2, 3, 4])
def test_derivatives_of_any_order(max_nu):
    """Of the features: up to the third by what autograd makes of the formulas."""
    torch.manual_seed(8)
    symmetrizer = Symmetrizer(4, max_nu).double()
    basis, *directions = torch.randn(4, 2, 35, 3, dtype=torch.float64)
    sums = [x for x in symmetrizer.modules() if isinstance(x, SumOfProducts)]

    def third_derivative():
        leaf = basis.clone().requires_grad_()
        value = symmetrizer(leaf).square().sum()
        for direction in directions:
            (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
            value = (gradient * direction).sum()
        return value

    actual = third_derivative()
    for module in sums:
        module.forward = lambda rows, own=module: (
            own.weights @ (rows.index_select(1, own.left) * rows.index_select(1, own.right))
        )
    expected = third_derivative()
    assert expected.abs() > 1.0
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0.0)


def test_structures_that_are_partly_periodic(short_range):
    """The vectors of open axes may be missing; without LES one periodic axis will do."""
    calculator = LESCalculator(short_range)
    for pbc in ([True, True, False], [True, False, False]):
        thick = structures()["cubic"]
        thick.pbc = pbc
        expected = results_of(calculator, thick)
        assert "stress" in expected
        thin = thick.copy()
        thin.set_cell(thick.cell * np.array(pbc)[:, None])
        actual = results_of(calculator, thin)
        assert "stress" not in actual
        np.testing.assert_allclose(actual["energy"], expected["energy"], rtol=1e-12)
        np.testing.assert_allclose(actual["forces"], expected["forces"], rtol=0, atol=1e-12)


def test_loaded_models_are_for_evaluation(short_range, tmp_path):
    save_model(short_range, tmp_path / "model.cace.pt")
    model = load_model(tmp_path / "model.cace.pt")
    batch = collate([to_structure(structures()["open"], 4.0)])
    assert not model(batch)["forces"].requires_grad


def test_what_earlier_releases_wrote(small, tmp_path):
    """In files and pickles; charges keep their mean, and elements have none of their own."""
    torch.manual_seed(4)
    settings = {**AS_BEFORE, "output_scaling_factor": 0.3}
    model = CACE(small, settings, atomic_energies=[-1.0, -3.0]).double().eval()
    path = tmp_path / "earlier.cace.pt"
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    arguments = content["arguments"]
    arguments["les_arguments"] = earlier_settings(arguments["les_arguments"])
    content["format"] = "les_cace.CACE/1"
    torch.save(content, path)
    expected = results_of(LESCalculator(model), structures()["open"])
    for loaded in (load_model(path), pickle.loads(earlier_pickle(model))):
        assert loaded.les_config == model.les_config
        assert loaded.charge_readout.of_elements is None
        found = results_of(LESCalculator(loaded), structures()["open"])
        assert abs(found["charges"].sum()) > 1e-3
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-12, err_msg=key)
