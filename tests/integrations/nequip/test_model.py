"""NequIP and Allegro with LES: the shared tests, and what the module adds to a model."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from ase import Atoms
from nequip.integrations.ase import NequIPCalculator

from les.legacy import settings_of_new_models
from les.testing import (
    AdapterTests,
    ChargeStateTests,
    EquilibrationTests,
    ExternalFieldTests,
    FreeChargesTests,
    MomentTests,
    SlabTests,
    TotalChargeTests,
)
from les.testing.adapter import results_of
from les.testing.charge_states import EMBEDDED, draw_embeddings, in_state
from les.testing.derivatives import derivative
from les.testing.fragments import in_fragments
from les.testing.structures import crystal, dimer
from les_nequip import LES, LESCalculator, PairPotentials, save_model

pytestmark = pytest.mark.usefixtures("nequip_state")

#: Makes the small random charges of a new model large enough to be seen.
SETTINGS = {**settings_of_new_models(True), "output_scaling_factor": 3.0}
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL",
    "units": "metal",
    "chemical_species": ["H", "O"],
}


def les_of(model):
    return next(module for module in model.modules() if isinstance(module, LES))


@pytest.fixture(scope="module")
def make_models(nequip_model):
    """Models by precision, which upstream's have for good, and with or without LES.

    All have the same weights. Tests must not change them.
    """

    @functools.cache
    def make(kind):
        models = {
            (dtype, les): nequip_model(kind, dtype, les=SETTINGS if les else None)
            for dtype in ("float64", "float32")
            for les in (True, False)
        }
        of_elements = les_of(models["float64", True]).readout.of_elements
        of_elements.charges.data.copy_(torch.tensor([[0.15], [-0.2]]))
        weights = models["float64", True].state_dict()
        for (_, les), model in models.items():
            problems = model.load_state_dict(weights, strict=les)
            assert all("pair_potential" in key for key in problems.unexpected_keys)
            assert not problems.missing_keys
        return models

    return make


class NequIPTests(AdapterTests, SlabTests):
    kind = "nequip"
    # Upstream's positions are in float64 always, and so are derivatives with respect to them.
    single_dtype = np.float64

    @pytest.fixture
    def models(self, make_models):
        return make_models(self.kind)

    @pytest.fixture
    def calculator(self, models, nequip_transforms):
        def make(dtype="float64", zero_charges=False, bec=False, **options):
            own = copy.deepcopy(models[dtype, True])
            if zero_charges:
                for parameter in les_of(own).readout.parameters():
                    parameter.data.zero_()
            return LESCalculator(own, bec=bec, transforms=nequip_transforms, **options)

        return make

    @pytest.fixture
    def upstream_calculator(self, models, nequip_transforms):
        return lambda dtype="float64": NequIPCalculator(
            models[dtype, False], "cpu", transforms=nequip_transforms
        )

    @pytest.fixture
    def reloaded_calculator(self, models, nequip_section, nequip_checkpoint, tmp_path):
        section = nequip_section(self.kind, les=SETTINGS)
        path = nequip_checkpoint(tmp_path / "model.ckpt", section, models["float64", True])
        return LESCalculator.from_file(path, allow_pickle=True)

    @pytest.fixture
    def predict_batch(self, models, nequip_data):
        def predict(structures):
            out = copy.deepcopy(models["float64", True])(nequip_data(*structures))
            names = {"total_energy": "energy", "les_energy": "les_energy"}
            result = {name: out[key].detach().numpy()[:, 0] for key, name in names.items()}
            result["forces"] = out["forces"].detach().numpy()
            result["charges"] = out["charges"].detach().numpy()[:, 0]
            return result

        return predict

    @pytest.fixture
    def ewald(self, models):
        return les_of(models["float64", True]).ewald


class TestNequIP(NequIPTests):
    pass


class TestAllegro(NequIPTests):
    kind = "allegro"
    receptive_field = 4.0


class NequIPTotalCharge(TotalChargeTests):
    """The same models, whose charges sum to the total charge."""

    kind = "nequip"
    calculator = NequIPTests.calculator
    predict_batch = NequIPTests.predict_batch

    neutrality, sign = "shift", "trained"

    @pytest.fixture
    def models(self, nequip_model, make_models):
        settings = {**SETTINGS, "neutrality": self.neutrality, "sign": self.sign}
        model = nequip_model(self.kind, "float64", les=settings)
        model.load_state_dict(make_models(self.kind)["float64", True].state_dict())
        return {("float64", True): model}


class TestTotalCharge(NequIPTotalCharge):
    pass


class TestTotalChargeOfAllegro(NequIPTotalCharge):
    kind = "allegro"


class NequIPChargeStates(ChargeStateTests):
    """The same models, whose features also know the charge state."""

    kind = "nequip"
    calculator = NequIPTests.calculator
    predict_batch = NequIPTests.predict_batch

    @pytest.fixture
    def models(self, nequip_model, make_models):
        model = nequip_model(self.kind, "float64", les={**SETTINGS, **EMBEDDED})
        state = make_models(self.kind)["float64", True].state_dict()
        model.load_state_dict({**model.state_dict(), **state})
        draw_embeddings(model)
        return {("float64", True): model}

    @pytest.fixture
    def reloaded_calculator(self, models, nequip_section, tmp_path):
        section = nequip_section(self.kind, les={**SETTINGS, **EMBEDDED})
        save_model(models["float64", True], tmp_path / "model.nequip.pt", section)
        return LESCalculator(tmp_path / "model.nequip.pt")

    def test_data_without_the_state(self, models, nequip_data):
        data = nequip_data(dimer())
        del data["total_charge"]
        with pytest.raises(ValueError, match="`total_charge` must be given: the model embeds it"):
            models["float64", True](data)


class TestChargeStates(NequIPChargeStates):
    def test_no_compiled_model(self, models, monkeypatch):
        """Where nequip-compile asks what a model is made for, before it compiles it."""
        model = models["float64", True]
        assert "embed_total_charge" in model.metadata["les"]
        monkeypatch.setattr("les_nequip.module.is_exporting", lambda: True)
        with pytest.raises(ValueError, match=r"embeds the total charge .* cannot be compiled by"):
            _ = model.metadata


class TestChargeStatesOfAllegro(NequIPChargeStates):
    kind = "allegro"

    def test_features_vanish_at_the_cutoff(self, calculator):
        """Also those of an ion."""
        calc = calculator()
        energies = []
        for distance in (3.999999, 4.000001):
            atoms = in_state(Atoms("OH", [[0, 0, 0], [distance, 0, 0]]), 1, 3)
            results = results_of(calc, atoms)
            energies.append(results["energy"] - results["les_energy"])
        assert energies[0] == pytest.approx(energies[1], rel=0, abs=1e-9)


class TestMoments(MomentTests):
    """Small models with vectors and tensors; those of Allegro are told apart by their scalars."""

    @pytest.fixture
    def with_moments(self, nequip_model, nequip_transforms):
        def make(settings, dtype="float64", **options):
            les = {"cutoff": "smooth", "initial_charge_scale": 10.0, "sign": "trained", **settings}
            size = {"l_max": 2, "num_features": 4, "num_layers": 2}
            model = nequip_model("nequip", les=les, **size)
            if dtype != "float64":
                weights = model.state_dict()
                model = nequip_model("nequip", dtype, les=les, **size)
                model.load_state_dict(weights)
            return LESCalculator(model, transforms=nequip_transforms, **options)

        return make

    @pytest.fixture
    def with_scalars_only(self, nequip_model):
        return lambda settings: nequip_model("allegro", les=settings)

    @pytest.fixture
    def reloaded(self, nequip_section, tmp_path):
        def reload(calc):
            settings = les_of(calc.model).config.settings()
            size = {"l_max": 2, "num_features": 4, "num_layers": 2}
            section = nequip_section("nequip", les=settings, **size)
            save_model(calc.model, tmp_path / "moments.nequip.pt", section)
            return LESCalculator(tmp_path / "moments.nequip.pt")

        return reload

    @pytest.mark.parametrize("by", ["is_tracing", "is_exporting"])
    def test_no_graph_is_captured(self, by, nequip_model, nequip_data, monkeypatch):
        """Neither by compiled training nor by nequip-compile, and why is said."""
        settings = {"boundary": "periodic", "max_cell": 15.0, "use_dipole": True}
        model = nequip_model("nequip", "float64", les={**SETTINGS, **settings})
        monkeypatch.setattr(f"les_nequip.module.{by}", lambda: True)
        with pytest.raises(ValueError, match="neither compiled nor exported: their sum"):
            model(nequip_data(crystal("triclinic")))

    def test_elements(self, nequip_model, nequip_data):
        data = nequip_data(dimer())
        settings = {"neutrality": "none", "use_induced_dipole": True}
        fixed = {"use_fixed_atomic_charges": True, "fixed_atomic_charges_scaling_factor": 0.1}
        plain = nequip_model("allegro", les=settings)(dict(data))
        own = nequip_model("allegro", les={**settings, **fixed, "use_atomic_alpha": True})
        out = own(dict(data))
        states = torch.tensor([-0.2, 0.1, 0.1]).double().repeat(2)
        torch.testing.assert_close(out["charges"].view(-1), plain["charges"].view(-1) + states)


class TestExternalField(ExternalFieldTests):
    """Small models with vectors and tensors that take a field."""

    single_dtype = NequIPTests.single_dtype
    kind, size = "nequip", {"l_max": 2, "num_features": 4, "num_layers": 2}

    @pytest.fixture
    def in_field(self, nequip_model, nequip_transforms):
        def make(settings, dtype="float64", **options):
            les = {**SETTINGS, "external_field": True, "sign": "trained", "epsilon_factor": 1.5}
            les |= {"neutrality": "shift", **settings}
            model = nequip_model(self.kind, "float64", les=les, **self.size)
            if dtype != "float64":
                weights = model.state_dict()
                model = nequip_model(self.kind, dtype, les=les, **self.size)
                model.load_state_dict(weights)
            return LESCalculator(model, transforms=nequip_transforms, **options)

        return make

    def test_no_graph_is_captured(self, in_field, nequip_data, monkeypatch):
        model = in_field({}).model
        monkeypatch.setattr("les_nequip.module.is_tracing", lambda: True)
        with pytest.raises(ValueError, match=r"`external_field`\) can be neither compiled nor exp"):
            model(nequip_data(crystal("triclinic")))


class TestExternalFieldOfAllegro(TestExternalField):
    kind, size = "allegro", {}
    variants = ("charges", "equilibrated")


class TestEquilibration(EquilibrationTests):
    """The same short-range part, with equilibrated charges."""

    kind = "nequip"
    calculator = NequIPTests.calculator
    predict_batch = NequIPTests.predict_batch

    @pytest.fixture
    def models(self, nequip_model):
        settings = {**SETTINGS, "charge_equilibration": True, "sign": "trained"}
        return {("float64", True): nequip_model(self.kind, "float64", les=settings)}

    def test_no_graph_is_captured(self, nequip_model, nequip_data, monkeypatch):
        settings = {"boundary": "periodic", "max_cell": 15.0, "charge_equilibration": True}
        model = nequip_model(self.kind, "float64", les={**SETTINGS, **settings})
        monkeypatch.setattr("les_nequip.module.is_tracing", lambda: True)
        with pytest.raises(ValueError, match="can be neither compiled nor exported"):
            model(nequip_data(crystal("triclinic")))


class TestEquilibrationOfAllegro(TestEquilibration):
    kind = "allegro"


class TestFreeCharges(FreeChargesTests):
    """The same model, whose charges keep their mean."""

    kind = "nequip"
    neutrality, sign = "none", "open"
    calculator = NequIPTests.calculator
    predict_batch = NequIPTests.predict_batch
    models = NequIPTotalCharge.models


class TestFreeChargesOfAllegro(TestFreeCharges):
    kind = "allegro"


# --- energies


@pytest.fixture(params=["nequip", "allegro"])
def kind(request):
    return request.param


def test_energies_of_atoms_and_structures(kind, nequip_model, nequip_data):
    """Each gets its part of the long-range energy, in a batch too."""
    model = nequip_model(kind, les=SETTINGS)
    batch = nequip_data(dimer(), crystal(), dimer()[:3])
    with_charges = model(dict(batch))
    les_of(model).readout.output_scaling_factor = 0.0
    without = model(dict(batch))
    energies = with_charges["atomic_energy"].flatten()
    sums = torch.zeros(3).double().index_add(0, batch["batch"], energies)
    torch.testing.assert_close(sums, with_charges["total_energy"].flatten(), rtol=0, atol=1e-11)
    change = with_charges["total_energy"] - without["total_energy"]
    torch.testing.assert_close(change, with_charges["les_energy"], rtol=0, atol=1e-11)
    assert with_charges["les_energy"].shape == (3, 1)
    assert with_charges["charges"].shape == (15, 1)
    assert with_charges["les_energy"].abs().min() > 1e-3


@pytest.mark.usefixtures("only_second_derivatives")
def test_gradient_of_a_loss_on_forces_and_stress(kind, nequip_model, nequip_data):
    """Training differentiates twice: compare with differences of the loss."""
    model = nequip_model(kind, les=SETTINGS).train()
    batch = nequip_data(crystal(), crystal("left-handed"))
    weight = les_of(model).readout.linear.weight

    def loss():
        out = model(dict(batch))
        return (out["forces"] ** 2).sum() + 100.0 * (out["stress"] ** 2).sum()

    loss().backward()
    for name, parameter in les_of(model).named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        # A bias is one charge for all atoms, which is shifted away.
        assert name == "readout.network.4.bias" or parameter.grad.abs().max() > 1e-8, name

    def shifted(amount):
        with torch.no_grad():
            weight[0, 2] += amount
            try:
                with torch.enable_grad():
                    return loss().item()
            finally:
                weight[0, 2] -= amount

    assert weight.grad[0, 2].item() == pytest.approx(float(derivative(shifted)), rel=1e-6)


def test_gradients_reach_a_new_charge_readout(kind, nequip_model, nequip_data):
    """Charges start small but not at zero, where the gradient of their energy vanishes."""
    model = nequip_model(kind, les={}).train()
    out = model(nequip_data(dimer()))
    assert 1e-4 < out["charges"].abs().max() < 0.5
    out["total_energy"].sum().backward()
    for name, parameter in les_of(model).named_parameters():
        # A bias is one charge for all atoms, which is shifted away.
        assert name == "readout.network.4.bias" or parameter.grad.abs().max() > 1e-7, name


def test_edge_features_are_summed_and_scaled(nequip_model, nequip_data):
    """What Allegro's charges are read from is of order one for some 20 neighbours."""
    model, seen = nequip_model("allegro", les=SETTINGS), {}
    les = les_of(model)
    les.register_forward_pre_hook(lambda _, inputs: seen.update(inputs[0]))
    les.readout.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0]))
    model(nequip_data(dimer(), crystal()))
    centres = seen["edge_index"][0]
    sums = [seen["edge_features"][centres == atom].sum(dim=0) for atom in range(12)]
    expected = torch.stack(sums) / 20.0**0.5
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(seen["features"], expected, rtol=0, atol=1e-12)


def test_backbone_starts_from_the_same_weights(kind, nequip_model):
    """A run with LES and one without differ by LES alone."""
    short_range = nequip_model(kind).state_dict()
    long_range = nequip_model(kind, les={}).state_dict()
    assert all("pair_potential" in key for key in set(long_range) - set(short_range))
    for key, value in short_range.items():
        assert torch.equal(long_range[key], value), key


def test_atoms_in_any_order(nequip_model, nequip_data):
    """Upstream allows batches whose atoms are not sorted by structure."""
    model = nequip_model(les=SETTINGS)
    batch = nequip_data(dimer(), crystal())
    expected = model(dict(batch))
    order = torch.tensor([3, 11, 0, 7, 1, 6, 10, 2, 9, 4, 8, 5])
    shuffled = {**batch, "edge_index": torch.argsort(order)[batch["edge_index"]]}
    for key in ("pos", "atom_types", "batch", "atomic_numbers"):
        if key in batch:
            shuffled[key] = batch[key][order]
    actual = model(shuffled)
    for key in ("les_energy", "total_energy"):
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=1e-11)
    for key in ("charges", "forces"):
        torch.testing.assert_close(actual[key], expected[key][order], rtol=0, atol=1e-11)


def test_zbl_and_les_in_the_slot(kind, nequip_model, nequip_data):
    close = dimer()
    close.positions[1] *= 0.6
    les = {"_target_": "les_nequip.LES", **SETTINGS}
    potentials = [{**potential, "_partial_": True} for potential in (ZBL, les)]
    slot = {"_target_": "les_nequip.PairPotentials", "potentials": potentials}
    models = {
        "none": nequip_model(kind),
        "zbl": nequip_model(kind, pair_potential=ZBL),
        "les": nequip_model(kind, les=SETTINGS),
        "both": nequip_model(kind, pair_potential=slot),
    }
    readout = les_of(models["les"]).readout.state_dict()
    les_of(models["both"]).readout.load_state_dict(readout)
    for key in ("total_energy", "forces", "atomic_energy"):
        value = {name: model(nequip_data(close))[key].detach() for name, model in models.items()}
        zbl, les = value["zbl"] - value["none"], value["les"] - value["none"]
        assert min(zbl.abs().max(), les.abs().max()) > 1e-3
        torch.testing.assert_close(value["both"], value["none"] + zbl + les, rtol=0, atol=1e-9)


def test_what_builds_a_chain():
    """Sections of a configuration, functions, and modules that add to each other's output."""
    irreps = {"node_features": "4x0e", "atomic_energy": "0e"}
    section = {"_target_": "les_nequip.LES", "compute_bec": True}
    chain = PairPotentials([functools.partial(LES, sigma=2.0), section], ["H", "O"], irreps)
    first, second = chain
    assert (first.config.sigma, second.config.sigma) == (2.0, 1.0)
    assert {"charges", "born_effective_charges"} <= chain.irreps_out.keys()
    with pytest.raises(ValueError, match="`potentials` must list at least one"):
        PairPotentials([], ["H", "O"], irreps)


def test_epsilon_factor_scales_charges_but_not_energies(nequip_model, nequip_data):
    plain = nequip_model(les={**SETTINGS, "compute_bec": True})
    scaled = nequip_model(les={**SETTINGS, "compute_bec": True, "epsilon_factor": 4.0})
    expected, actual = (model(nequip_data(crystal())) for model in (plain, scaled))
    factors = {"total_energy": 1, "les_energy": 1, "charges": 2, "born_effective_charges": 2}
    for key, factor in factors.items():
        torch.testing.assert_close(actual[key], factor * expected[key])
    assert actual["born_effective_charges"].shape == (6, 3, 3)


def test_born_effective_charges_can_be_trained_on(nequip_model, nequip_data):
    model = nequip_model(les={**SETTINGS, "compute_bec": True}).train()
    model(nequip_data(dimer()))["born_effective_charges"].square().sum().backward()
    assert les_of(model).readout.linear.weight.grad.abs().max() > 1e-3


def test_compiled_models_refuse_fragments(nequip_model, nequip_transforms):
    """As a calculator does that has settings and no module of LES."""
    les = {**SETTINGS, "neutrality": "shift"}
    model = nequip_model("nequip", "float64", les=les)
    calc = LESCalculator(model, transforms=nequip_transforms)
    calc.settings, calc.les_modules = {**calc.settings, "boundary": "open"}, []
    with pytest.raises(ValueError, match="compiled models take structures as a whole, got one"):
        calc.calculate(in_fragments(dimer()))
    calc.calculate(dimer())
