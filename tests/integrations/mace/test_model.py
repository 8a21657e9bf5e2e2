"""The MACE model with LES: the shared tests, and what is particular to MACE."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase.stress import voigt_6_to_full_3x3_stress
from e3nn import o3
from e3nn.util import jit
from mace.calculators import LAMMPS_MACE, MACECalculator
from mace.modules import ScaleShiftMACE, blocks, extensions
from mace.modules.models import MACE
from mace.tools.torch_tools import default_dtype

from les import LESConfig
from les.backends.committee import Committee
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
from les.testing.adapter import calculators_of, results_of
from les.testing.charge_states import EMBEDDED, draw_embeddings, in_state
from les.testing.derivatives import born_by_differences, derivative
from les.testing.external_field import FIELD, placed_in
from les.testing.moments import PERMANENT
from les.testing.slabs import slab
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, lammps, load_model, save_model
from les_mace.edges import KNOWN_INTERACTIONS
from les_mace.readouts import negate, read


class TestMACE(AdapterTests, SlabTests):
    @pytest.fixture
    def calculator(self, model, scale_charges):
        return calculators_of(LESCalculator, model, scale_charges)

    @pytest.fixture
    def upstream_calculator(self, short_range_model):
        return lambda dtype="float64": MACECalculator(
            models=copy.deepcopy(short_range_model), device="cpu", default_dtype=dtype
        )

    @pytest.fixture
    def reloaded_calculator(self, model, tmp_path):
        save_model(model, tmp_path / "model.pt")
        return LESCalculator(tmp_path / "model.pt")

    @pytest.fixture
    def predict_batch(self, model, mace_batch):
        def predict(structures):
            out = copy.deepcopy(model)(mace_batch(structures))
            keys = ("energy", "les_energy", "forces", "charges")
            return {key: out[key].detach().numpy() for key in keys}

        return predict

    @pytest.fixture
    def ewald(self, model):
        return model.les.ewald


class TestTotalCharge(TotalChargeTests):
    """The same model, whose charges sum to the total charge."""

    calculator = TestMACE.calculator
    predict_batch = TestMACE.predict_batch

    @pytest.fixture
    def model(self, model):
        own = copy.deepcopy(model)
        settings = {"neutrality": "shift", "sign": "trained"}
        own.les._apply_settings(dataclasses.replace(own.les.config(), **settings))
        return own

    def test_scripted_model(self, model, mace_batch):
        ion, cell = dimer(), crystal("triclinic")
        ion.info["charge"], cell.info["charge"] = -1, 2
        program = jit.compile(copy.deepcopy(model))
        scripted = program(mace_batch([ion, cell]))
        expected = model(mace_batch([ion, cell]))
        for key in ("energy", "charges", "forces"):
            torch.testing.assert_close(scripted[key], expected[key], rtol=0, atol=1e-10)
        assert scripted["charges"].sum().item() == pytest.approx(1.0, abs=1e-12)
        batch = mace_batch([dimer()])
        n_atoms = len(batch["positions"])
        untold = program({**batch, "fragment": torch.full((n_atoms,), -1)})
        torch.testing.assert_close(untold["energy"], program(batch)["energy"])
        with pytest.raises(torch.jit.Error, match="`fragment` in the data is not for a model"):
            program({**batch, "fragment": torch.arange(n_atoms) // 3})

    def test_key_that_upstream_is_told(self, calculator):
        """Upstream's ``info_keys`` name what holds the total charge."""
        calc, ion = calculator(info_keys={"total_charge": "Q"}), dimer()
        for charge in (1, 0, -1):
            ion.info["Q"] = charge
            charges = results_of(calc, ion)["charges"]
            assert charges.sum() == pytest.approx(charge, abs=1e-10)


class TestChargeStates(ChargeStateTests):
    """The same model, whose features also know the charge state."""

    calculator = TestMACE.calculator
    predict_batch = TestMACE.predict_batch
    reloaded_calculator = TestMACE.reloaded_calculator

    @pytest.fixture
    def model(self, short_range_model, scale_charges):
        torch.manual_seed(6)
        own = MACELES.from_short_range(short_range_model, LESConfig(**EMBEDDED))
        scale_charges(own, 4.0)
        draw_embeddings(own)
        return own

    def test_scripted_model(self, model, mace_batch):
        states = [in_state(dimer(), -1, 2), in_state(crystal("triclinic"), 2)]
        scripted = jit.compile(copy.deepcopy(model))(mace_batch(states))
        expected = model(mace_batch(states))
        for key in ("energy", "charges", "forces"):
            torch.testing.assert_close(scripted[key], expected[key], rtol=0, atol=1e-10)

    def test_hessian_of_an_ion(self, calculator):
        calc, atoms = calculator(), in_state(dimer(), -1, 2)
        hessian = calc.get_hessian(atoms).reshape(18, 6, 3)

        def forces(shift):
            moved = atoms.copy()
            moved.positions[4, 2] += shift
            return results_of(calc, moved)["forces"]

        np.testing.assert_allclose(hessian[14], -derivative(forces), rtol=0, atol=1e-6)

    def test_upstreams_own_embedding_beside_it(self, mace_arguments):
        specs = {"total_charge": {"type": "continuous", "per": "graph", "in_dim": 1, "emb_dim": 4}}
        with pytest.raises(ValueError, match="takes the place of upstream's `embedding_specs`"):
            MACELES(LESConfig(**EMBEDDED), embedding_specs=specs, **mace_arguments)

    def test_upstreams_own_embedding_without_ours(self, mace_arguments, calculator):
        """A spin that upstream embeds reaches it, whatever the long-range part is given."""
        torch.manual_seed(1)
        specs = {"total_spin": {"type": "continuous", "per": "graph", "in_dim": 1, "emb_dim": 4}}
        own = MACELES(LESConfig(neutrality="shift"), embedding_specs=specs, **mace_arguments)
        calc = LESCalculator(own.double())
        energies = [results_of(calc, in_state(dimer(), 0, spin))["energy"] for spin in (1, 3)]
        assert abs(energies[1] - energies[0]) > 1e-6

    def test_key_of_the_spin_that_upstream_is_told(self, model):
        calc = LESCalculator(model, info_keys={"total_spin": "multiplicity"})
        renamed, expected = in_state(dimer(), -1, 2), in_state(dimer(), -1, 2)
        renamed.info["multiplicity"] = renamed.info.pop("spin")
        energies = [results_of(calc, atoms)["energy"] for atoms in (renamed, expected)]
        assert energies[0] == pytest.approx(energies[1], rel=0, abs=1e-10)

    def test_batches_without_the_state(self, model, mace_batch):
        batch = mace_batch([in_state(dimer())])
        del batch["total_spin"]
        with pytest.raises(ValueError, match="must have `total_spin`, which this model embeds"):
            model(batch)


class TestMoments(MomentTests):
    """Small models with vectors and tensors, or without."""

    @pytest.fixture
    def made(self, mace_arguments, scale_charges):
        def make(settings, irreps, **arguments):
            torch.manual_seed(7)
            given = {**mace_arguments, "hidden_irreps": o3.Irreps(irreps), **arguments}
            config = {"sign": "trained", **settings}
            with default_dtype(torch.float64):
                return MACELES(LESConfig(**config), **given)

        return make

    @pytest.fixture
    def with_moments(self, made):
        return lambda settings, **options: LESCalculator(
            made(settings, "4x0e + 4x1o + 4x2e"), **options
        )

    @pytest.fixture
    def with_scalars_only(self, made):
        return lambda settings: made(settings, "4x0e")

    @pytest.fixture
    def reloaded(self, tmp_path):
        def reload(calc):
            save_model(calc.models[0], tmp_path / "moments.pt")
            return LESCalculator(tmp_path / "moments.pt")

        return reload

    def test_several_heads_and_scripts_are_refused(self, made):
        settings, irreps = {"use_dipole": True}, "4x0e + 4x1o"
        energies = np.array([[-1.0, -2.0], [-1.0, -2.0]])
        with pytest.raises(ValueError, match="need a model with one head, this has a, b"):
            made(settings, irreps, heads=["a", "b"], atomic_energies=energies)
        with pytest.raises(Exception, match="can be neither compiled nor exported"):
            jit.compile(made(settings, irreps))

    def test_negation(self, made, mace_batch):
        own, batch = made(PERMANENT, "4x0e + 4x1o + 4x2e"), mace_batch([dimer()])
        opposite = copy.deepcopy(own)
        negate(opposite.les_readouts)
        before, after = own(dict(batch)), opposite(dict(batch))
        torch.testing.assert_close(after["energy"], before["energy"], rtol=0, atol=1e-12)
        for key in ("charges", "dipole", "atomic_dipoles", "atomic_quadrupoles"):
            torch.testing.assert_close(after[key], -before[key], rtol=0, atol=1e-12)

    def test_elements(self, made, mace_batch):
        """What is added for elements, without vectors or tensors."""
        batch = mace_batch([dimer()])
        settings = {"neutrality": "none", "use_induced_dipole": True}
        plain = made(settings, "4x0e")(dict(batch))
        fixed = {"use_fixed_atomic_charges": True, "fixed_atomic_charges_scaling_factor": 0.1}
        model = made({**settings, **fixed, "use_atomic_alpha": True}, "4x0e")
        out = model(dict(batch))
        states = torch.tensor([-0.2, 0.1, 0.1]).double().repeat(2)
        torch.testing.assert_close(out["charges"], plain["charges"] + states)
        key = "atomic_polarisabilities"
        torch.testing.assert_close(out[key], plain[key] + 0.02)


@pytest.mark.parametrize("moments", [{}, {"use_dipole": True}])
def test_born_effective_charges_of_oxidation_states(short_range_model, scale_charges, moments):
    """What is added for elements moves with the atoms, too."""
    torch.manual_seed(6)
    fixed = {"use_fixed_atomic_charges": True, "fixed_atomic_charges_scaling_factor": 0.3}
    model = MACELES.from_short_range(short_range_model, LESConfig(**fixed, **moments))
    scale_charges(model, 4.0)
    calc, atoms = LESCalculator(model, bec=True, sign=1), dimer()[:3]
    found = results_of(calc, atoms)["born_effective_charges"].reshape(-1, 3, 3)
    assert found[0].trace() / 3 < -0.3
    for axis in range(3):
        expected = born_by_differences(calc, atoms, 1, axis)
        np.testing.assert_allclose(found[1, :, axis], expected, rtol=0, atol=1e-6)


class TestExternalField(ExternalFieldTests):
    @pytest.fixture
    def in_field(self, mace_arguments, scale_charges):
        def make(settings, dtype="float64", **options):
            torch.manual_seed(7)
            given = {**mace_arguments, "hidden_irreps": o3.Irreps("4x0e + 4x1o + 4x2e")}
            config = LESConfig(external_field=True, sign="trained", epsilon_factor=1.5, **settings)
            with default_dtype(torch.float64):
                own = MACELES(config, **given)
            scale_charges(own, 4.0)
            return LESCalculator(own, dtype=dtype, **options)

        return make

    def test_key_that_upstream_is_told(self, in_field):
        """Upstream's ``info_keys`` name what holds the field, in committees as well."""
        keys = {"info_keys": {"external_field": "efield"}}
        calculators = [in_field({}, **keys), Committee([in_field({}), in_field({}, **keys)])]
        for calculator, share in zip(calculators, (1.0, 0.5), strict=True):
            atoms = dimer()
            atoms.calc = calculator
            without = atoms.get_potential_energy()
            atoms.info["efield"] = FIELD
            change = atoms.get_potential_energy() - without
            usual = [results_of(in_field({}), placed_in(dimer(), x)) for x in (FIELD, 0.0 * FIELD)]
            expected = share * (usual[0]["energy"] - usual[1]["energy"])
            assert change == pytest.approx(expected, rel=0, abs=1e-8)
            assert abs(change) > 1e-4

    def test_scripts_take_no_field(self, in_field, mace_batch):
        own = in_field({}).models[0]
        script, batch = jit.compile(copy.deepcopy(own)), mace_batch([dimer()])
        torch.testing.assert_close(script(batch)["energy"], own(batch)["energy"])
        batch["external_field"] = torch.ones(1, 3, dtype=torch.float64)
        with pytest.raises(torch.jit.Error, match="is not for a model compiled by TorchScript"):
            script(batch)


class TestEquilibration(EquilibrationTests):
    """The same short-range part, with equilibrated charges."""

    calculator = TestMACE.calculator
    predict_batch = TestMACE.predict_batch

    @pytest.fixture
    def model(self, short_range_model, scale_charges):
        torch.manual_seed(6)
        own = MACELES.from_short_range(
            short_range_model, LESConfig(charge_equilibration=True, sign="trained")
        )
        scale_charges(own, 4.0)
        return own

    def test_scripted_model(self, model, mace_batch):
        with pytest.raises(Exception, match="can be neither compiled nor exported"):
            jit.compile(copy.deepcopy(model))(mace_batch([dimer()]))

    def test_hessian(self, model):
        """It has the response of the charges: compare with differences of forces."""
        calc, atoms = LESCalculator(copy.deepcopy(model)), dimer()[:3]
        hessian = calc.get_hessian(atoms).reshape(9, 9)

        def forces(shift):
            moved = atoms.copy()
            moved.positions[1, 2] += shift
            return results_of(calc, moved)["forces"].ravel()

        np.testing.assert_allclose(hessian[5], -derivative(forces), rtol=0, atol=1e-6)

    def test_negation(self, model, mace_batch):
        """Of electronegativities alone, as before a training on dipoles."""
        own, batch = copy.deepcopy(model), mace_batch([dimer()])
        negate(list(own.les_readouts)[: len(own.readouts)])
        before, after = (
            each.raw_charges(each(dict(batch))["node_feats"], batch) for each in (model, own)
        )
        factors = torch.tensor([-1.0, 1.0]).double()
        torch.testing.assert_close(after, factors * before, rtol=1e-12, atol=0)


class TestFreeCharges(FreeChargesTests):
    """The same model, whose charges keep their mean."""

    calculator = TestMACE.calculator
    predict_batch = TestMACE.predict_batch

    @pytest.fixture
    def model(self, model):
        own = copy.deepcopy(model)
        own.les._apply_settings(dataclasses.replace(own.les.config(), neutrality="none"))
        return own


@pytest.mark.usefixtures("only_second_derivatives")
def test_gradient_of_a_loss_on_forces_and_stress(model, mace_batch):
    """Training differentiates twice: compare with differences of the loss."""
    model = copy.deepcopy(model)
    weight = list(model.les_readouts[1].parameters())[-1]
    structures = [dimer(), crystal("triclinic"), crystal("left-handed"), slab(1), slab()]

    def loss():
        out = model(mace_batch(structures), training=True, compute_stress=True)
        return (out["forces"] ** 2).sum() + 100.0 * (out["stress"][1:] ** 2).sum()

    loss().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    for readout in model.les_readouts:
        assert all(parameter.grad.abs().max() > 0 for parameter in readout.parameters())

    def shifted(amount):
        with torch.no_grad():
            weight[2] += amount
            try:
                with torch.enable_grad():
                    return loss().item()
            finally:
                weight[2] -= amount

    assert weight.grad[2].item() == pytest.approx(float(derivative(shifted)), rel=1e-6)


@pytest.mark.parametrize("long_range", [True, False])
def test_stress_of_slabs_in_a_training_batch(model, short_range_model, mace_batch, long_range):
    """It is what a calculator gives, also where the slab is elsewhere and others are beside it."""
    own = copy.deepcopy(model if long_range else short_range_model)
    moved = slab()
    moved.positions[:, 2] += 31.0
    structures = [slab(0), crystal(), moved]
    stress = own(mace_batch(structures), training=True, compute_stress=True)["stress"]
    calculator = LESCalculator(own)
    for atoms, actual in zip([slab(0), crystal(), slab()], stress.detach(), strict=True):
        expected = voigt_6_to_full_3x3_stress(results_of(calculator, atoms)["stress"])
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-12)


def test_gradients_reach_a_new_charge_readout(short_range_model, mace_batch):
    """Charges start small but not at zero, where the gradient of their energy vanishes."""
    model = MACELES.from_short_range(short_range_model)
    out = model(mace_batch([dimer()]), training=True)
    assert 1e-4 < out["charges"].abs().max() < 0.5
    out["energy"].sum().backward()
    for readout in model.les_readouts:
        assert all(parameter.grad.abs().max() > 1e-6 for parameter in readout.parameters())


@pytest.fixture(scope="module")
def upstream_pair(mace_arguments):
    """``mace.modules.extensions.MACELES`` and ours, same weights, sharp cutoff."""
    torch.manual_seed(7)
    with default_dtype(torch.float64):
        arguments = {"sigma": 1.1, "dl": 1.9}
        theirs = extensions.MACELES(les_arguments=arguments, **mace_arguments)
        ours = MACELES(les_arguments=arguments, **mace_arguments)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def test_energy_and_forces_of_upstreams_own_class(upstream_pair, mace_batch):
    """It imports ``les``, so this is also how existing programs use this package."""
    theirs, ours = upstream_pair
    assert ours.les.config().cutoff == "sharp"
    structures = [dimer(), crystal("cubic"), crystal("triclinic"), dimer()[:3]]
    expected, actual = theirs(mace_batch(structures)), ours(mace_batch(structures))
    assert expected["les_energy"].abs().min() > 1e-3
    for key in ("energy", "les_energy", "latent_charges", "forces"):
        difference = (actual[key] - expected[key]).abs().max().item()
        assert difference < 1e-12, (key, difference)


def test_stress_and_node_energies_of_upstreams_own_class(upstream_pair, mace_batch):
    """They lack the long-range part; once upstream repairs that, our class may go."""
    theirs, ours = upstream_pair
    expected = theirs(mace_batch([crystal("triclinic")]), compute_stress=True)
    actual = ours(mace_batch([crystal("triclinic")]), compute_stress=True)
    expected, actual = (
        {key: value.detach() for key, value in out.items() if value is not None}
        for out in (expected, actual)
    )
    assert (actual["stress"] - expected["stress"]).abs().max() > 1e-4
    assert expected["node_energy"].sum() != pytest.approx(expected["energy"].item(), abs=1e-4)
    assert actual["node_energy"].sum() == pytest.approx(actual["energy"].item(), abs=1e-10)


def test_scripted_model_gives_the_same(model, mace_batch, tmp_path):
    eager = copy.deepcopy(model)
    jit.compile(copy.deepcopy(model)).save(tmp_path / "scripted.pt")
    scripted = torch.jit.load(tmp_path / "scripted.pt")
    structures = [crystal("left-handed"), dimer()]
    expected = eager(mace_batch(structures), compute_stress=True)
    actual = scripted(mace_batch(structures), compute_stress=True)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if value is None:
            assert actual[key] is None, key
        else:
            np.testing.assert_allclose(
                actual[key].detach(), value.detach(), rtol=0, atol=1e-12, err_msg=key
            )


def test_scripted_model_has_no_born_effective_charges(model, mace_batch):
    scripted = jit.compile(copy.deepcopy(model))
    with pytest.raises(torch.jit.Error, match="not available from a model compiled by TorchScript"):
        scripted(mace_batch([dimer()]), compute_bec=True)


@pytest.fixture
def with_interaction(mace_arguments):
    """A function that makes a model with interactions of a class of that name."""

    def make(name):
        block = getattr(blocks, name)
        torch.manual_seed(4)
        arguments = {**mace_arguments, "interaction_cls": block, "interaction_cls_first": block}
        with default_dtype(torch.float64):
            model = MACELES(les_arguments={"cutoff": "smooth"}, **arguments)
        return model.eval()

    return make


@pytest.mark.parametrize("name", [block.__name__ for block in KNOWN_INTERACTIONS])
def test_exact_born_effective_charges_with_all_interactions(name, with_interaction, mace_batch):
    model = with_interaction(name)
    atoms = crystal("triclinic")
    one, two = (
        model(mace_batch([x]), compute_bec=True)["BEC"] for x in (atoms, atoms.repeat((1, 2, 1)))
    )
    np.testing.assert_allclose(two, one.repeat(2, 1, 1), rtol=0, atol=1e-10)
    assert (one - one.mean(0)).abs().max() > 1e-3


def test_unknown_interactions_are_refused(with_interaction, mace_batch):
    model = with_interaction("RealAgnosticAttResidualInteractionBlock")
    with pytest.raises(
        ValueError, match="MACE model with RealAgnosticAttResidualInteractionBlock: it is not known"
    ):
        model(mace_batch([dimer()]), compute_bec=True)


def test_unknown_interactions_have_the_published_approximation(with_interaction, mace_batch):
    """Of an open structure, where it is the derivative of the dipole."""
    model = with_interaction("RealAgnosticAttResidualInteractionBlock")
    model.bec_method = "phase"
    batch = mace_batch([dimer()])
    out = model(batch, training=True, compute_bec=True)
    positions = batch["positions"]
    expected = torch.stack(
        [torch.autograd.grad(x, positions, retain_graph=True)[0] for x in out["dipole"][0]], dim=1
    )
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(out["BEC"], expected, rtol=0, atol=1e-12)


def test_born_effective_charges_can_be_trained_on(model, mace_batch):
    model = copy.deepcopy(model).train()
    bec = model(mace_batch([dimer(), crystal()]), training=True, compute_bec=True)["BEC"]
    bec.square().sum().backward()
    for readout in model.les_readouts:
        assert all(parameter.grad.abs().max() > 0 for parameter in readout.parameters())


@pytest.mark.parametrize("option", ["compute_edge_forces", "compute_atomic_stresses"])
def test_edge_forces_are_refused(model, mace_batch, option):
    with pytest.raises(ValueError, match=f"not defined for the long-range energy.*`{option}`"):
        copy.deepcopy(model)(mace_batch([dimer()]), **{option: True})


def test_lammps_mliap_is_refused(model, mace_batch):
    with pytest.raises(ValueError, match="cannot run as LAMMPS ML-IAP"):
        copy.deepcopy(model)(mace_batch([dimer()]), lammps_mliap=True)


def test_batches_that_do_not_tell_what_is_periodic(model, mace_batch):
    batch = mace_batch([dimer()])
    del batch["pbc"]
    with pytest.raises(ValueError, match="`pbc`"):
        copy.deepcopy(model)(batch)


@pytest.mark.parametrize("kind", ["libtorch", "mliap"])
def test_converter_for_lammps_refuses(model, run_program, tmp_path, kind):
    """When the file would be made, rather than in LAMMPS."""
    torch.save(model, tmp_path / "les.model")
    arguments = ["-m", "mace.cli.create_lammps_model", tmp_path / "les.model", "--format", kind]
    result = run_program(*map(str, arguments), check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "ValueError: a model with LES cannot run in LAMMPS, which passes it no `pbc`"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["les.model"]


def test_converter_for_lammps_takes_short_range_models(model, short_range_model):
    lammps.guard_converters(MACELES)
    LAMMPS_MACE(copy.deepcopy(short_range_model))
    with pytest.raises(ValueError, match="cannot run in LAMMPS"):
        LAMMPS_MACE(model)


def test_wire_in_a_batch_is_refused(model, mace_batch):
    wire = crystal("cubic")
    wire.pbc = [True, False, False]
    with pytest.raises(ValueError, match=r"`pbc` must have none, two or three.*structure 1"):
        copy.deepcopy(model)(mace_batch([dimer(), wire]))


def test_epsilon_factor_scales_charges_but_not_energies(short_range_model, mace_batch):
    torch.manual_seed(1)
    plain = MACELES.from_short_range(short_range_model, LESConfig())
    torch.manual_seed(1)
    scaled = MACELES.from_short_range(short_range_model, LESConfig(epsilon_factor=4.0))
    expected = plain(mace_batch([crystal()]), compute_bec=True)
    actual = scaled(mace_batch([crystal()]), compute_bec=True)
    for key, factor in {
        "energy": 1,
        "latent_charges": 1,
        "charges": 2,
        "dipole": 2,
        "BEC": 2,
    }.items():
        torch.testing.assert_close(actual[key], factor * expected[key])


def test_one_component_of_born_effective_charges(short_range_model, mace_batch):
    torch.manual_seed(1)
    whole = MACELES.from_short_range(short_range_model, {"compute_bec": True})
    torch.manual_seed(1)
    part = MACELES.from_short_range(short_range_model, {"compute_bec": True, "bec_output_index": 0})
    expected, actual = (model(mace_batch([dimer()]))["BEC"] for model in (whole, part))
    assert expected.shape == (6, 3, 3)
    torch.testing.assert_close(actual.reshape(6, 3), expected[:, 0])
    with pytest.raises(ValueError, match="`bec_output_index` must be 0, 1 or 2, got -1"):
        MACELES.from_short_range(short_range_model, {"bec_output_index": -1})


class TestFromShortRange:
    def test_energies_are_kept_up_to_small_charges(self, short_range_model, mace_batch):
        structures = [dimer(), crystal("triclinic")]
        before = short_range_model(mace_batch(structures))
        after = MACELES.from_short_range(short_range_model)(mace_batch(structures))
        change = after["energy"] - before["energy"]
        torch.testing.assert_close(change, after["les_energy"], rtol=0, atol=1e-12)
        assert (change.abs() > 0).all()
        assert (change.abs() < 0.1 * 6).all()  # less than 0.1 eV/atom

    def test_the_given_model_is_not_changed(self, short_range_model):
        keys = list(short_range_model.state_dict())
        with_charges = MACELES.from_short_range(short_range_model)
        assert type(short_range_model) is ScaleShiftMACE
        assert list(short_range_model.state_dict()) == keys
        for parameter in with_charges.parameters():
            parameter.data.zero_()
        assert any(parameter.any() for parameter in short_range_model.parameters())

    def test_settings_and_dtype(self, short_range_model):
        single = copy.deepcopy(short_range_model).float()
        model = MACELES.from_short_range(single, {"sigma": 1.3, "dl": 1.7})
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        config = model.les.config()
        assert (config.sigma, config.dl, config.cutoff) == (1.3, 1.7, "sharp")

    def test_only_short_range_models(self, model, mace_arguments):
        with pytest.raises(TypeError, match=r"must be a short-range ScaleShiftMACE, got MACELES"):
            MACELES.from_short_range(model)
        arguments = {k: v for k, v in mace_arguments.items() if not k.startswith("atomic_inter")}
        with pytest.raises(TypeError, match=r"must be a short-range ScaleShiftMACE, got MACE$"):
            MACELES.from_short_range(MACE(**arguments))


def test_unknown_setting_names_the_closest(mace_arguments):
    with pytest.raises(ValueError, match=r"unknown key 'sigmaa'; did you mean 'sigma'"):
        MACELES(les_arguments={"sigmaa": 2.0}, **mace_arguments)


@pytest.mark.parametrize("given", [LESConfig.from_dict, dict])
def test_readouts_know_the_element_already(short_range_model, given):
    """Charges of elements would have no effect, in whatever way they are asked for."""
    with pytest.raises(ValueError, match=r"`element_charges` .*has no effect"):
        MACELES.from_short_range(short_range_model, given({"element_charges": True}))


def test_settings_of_other_hosts_are_told(mace_arguments, caplog):
    MACELES(les_arguments={"alpha_scale": 2.0, "use_dipole": False}, **mace_arguments)
    assert caplog.messages == ["`alpha_scale` has no effect on this model, got 2.0"]


def test_atomwise_is_refused(mace_arguments):
    with pytest.raises(ValueError, match="`use_atomwise` is not supported by MACELES"):
        MACELES(les_arguments={"use_atomwise": True, "n_features": 4}, **mace_arguments)


def test_input_without_pbc_is_refused(model, mace_batch):
    batch = mace_batch([dimer()])
    del batch["pbc"]
    with pytest.raises(ValueError, match="needs `pbc` in its input; LAMMPS"):
        model(batch)


def test_scripted_model_and_slabs(model, mace_batch):
    batch = mace_batch([slab()])
    scripted = jit.compile(copy.deepcopy(model))
    expected = copy.deepcopy(model)(batch)["energy"]
    torch.testing.assert_close(scripted(batch)["energy"], expected, rtol=1e-10, atol=0.0)
    batch["pbc"] = torch.tensor([[True, False, False]])
    with pytest.raises(RuntimeError, match="wires are not supported"):
        scripted(batch)


def test_model_file(model, tmp_path):
    save_model(model, tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content["format"].startswith("les_mace.MACELES/")
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.les.config() == model.les.config()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    assert not list(tmp_path.glob("*.part"))


def test_initial_charge_scale(mace_arguments):
    readouts = []
    for scale in (1.0, 0.5):
        torch.manual_seed(6)
        model = MACELES(les_arguments={"initial_charge_scale": scale}, **mace_arguments)
        readouts.append([list(readout.parameters())[-1] for readout in model.les_readouts])
    for whole, half in zip(*readouts, strict=True):
        torch.testing.assert_close(half, 0.5 * whole)


@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize("irreps", ["6x0e", "6x0e+5x1o", "3x0e+2x1o+3x0e"])
@pytest.mark.parametrize("hidden", [None, "4x0e"])
def test_readouts_without_detours(hidden, irreps, n_heads):
    """They give the same charges, with the same gradients."""
    torch.manual_seed(7)
    irreps, output = o3.Irreps(irreps), o3.Irreps(f"{n_heads}x0e")
    with default_dtype(torch.float64):
        if hidden is None:
            readout = blocks.LinearReadoutBlock(irreps, output)
        else:
            gate = torch.nn.functional.silu
            readout = blocks.NonLinearReadoutBlock(
                irreps, o3.Irreps(hidden), gate, output, num_heads=n_heads
            )
        features = torch.randn(5, irreps.dim).requires_grad_()
        heads = torch.arange(5) % n_heads
        results = [function(features, heads) for function in (readout, partial(read, readout))]
    leaves = [features, *readout.parameters()]
    gradients = [torch.autograd.grad(x.square().sum(), leaves) for x in results]
    assert results[0].abs().max() > 1e-2
    for actual, expected in ((results[1], results[0]), *zip(gradients[1], gradients[0])):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
