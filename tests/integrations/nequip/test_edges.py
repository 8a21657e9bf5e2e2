"""Exact Born effective charges of all kinds of layers, and of none that are not known."""

from __future__ import annotations

import copy
import io
import json

import numpy as np
import pytest
import torch
from nequip.nn import InteractionBlock
from nequip.nn._tp_scatter_base import TensorProductScatter
from nequip.nn.embedding import PolynomialCutoff

from les import born_effective_charges
from les.legacy import settings_of_new_models
from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import crystal, dimer
from les_nequip import LES, AddLES, LESCalculator

pytestmark = pytest.mark.usefixtures("nequip_state")

SETTINGS = {**settings_of_new_models(True), "output_scaling_factor": 3.0}
BORN = "born_effective_charges"
SPLINES = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": 4, "spline_span": 3}
CUTOFFS = {"H": 3.5, "O": {"H": 3.0, "O": 4.0}}
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL",
    "units": "metal",
    "chemical_species": ["H", "O"],
}
CHAIN = {
    "_target_": "les_nequip.PairPotentials",
    "potentials": [
        {**ZBL, "_partial_": True},
        {"_target_": "les_nequip.LES", "_partial_": True, **SETTINGS},
    ],
}
#: Settings that make models of other layers than the usual ones.
VARIANTS = {
    "one layer": ("nequip", {"num_layers": 1}),
    "three layers": ("nequip", {"num_layers": 3, "l_max": 0}),
    "residual layers": ("nequip", {"convnet_resnet": True, "num_layers": 3}),
    "norm": ("nequip", {"convnet_nonlinearity_type": "norm"}),
    "no self-connection": ("nequip", {"convnet_sc": False}),
    "cutoffs of pairs": ("nequip", {"per_edge_type_cutoff": CUTOFFS}),
    "neighbours by type": ("nequip", {"avg_num_neighbors": {"H": 12.0, "O": 7.0}}),
    "pair potential": ("nequip", {"pair_potential": CHAIN}),
    "Allegro of two layers": ("allegro", {"num_layers": 2, "tp_path_channel_coupling": False}),
    "Allegro with splines": ("allegro", {"radial_chemical_embed": SPLINES}),
    "Allegro and pair potential": ("allegro", {"pair_potential": CHAIN}),
}


def les_of(model):
    return next(module for module in model.modules() if isinstance(module, LES))


@pytest.fixture
def born(nequip_transforms):
    """A function that evaluates the Born effective charges of a structure, ``[n_atoms, 9]``."""

    def evaluate(model, atoms, bec=True):
        calculator = LESCalculator(model, bec=bec, transforms=nequip_transforms)
        assert calculator.bec_method == ("exact" if bec is True else bec)
        return results_of(calculator, atoms)[BORN]

    return evaluate


@pytest.mark.parametrize("variant", VARIANTS)
def test_supercell(variant, nequip_model, born):
    kind, changes = VARIANTS[variant]
    les = None if "pair_potential" in changes else SETTINGS
    model = nequip_model(kind, les=les, **changes)
    atoms = crystal("triclinic")
    one, two = born(model, atoms), born(model, atoms.repeat((2, 1, 1)))
    np.testing.assert_allclose(two, np.tile(one, (2, 1)), rtol=0, atol=1e-10)
    published = born(model, atoms, bec="phase")
    assert np.abs(published - one).max() > 1e-4


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_published_approximation(kind, nequip_model, born):
    """It is that of the charges and positions alone, and the exact one of a molecule."""
    model = nequip_model(kind, les={**SETTINGS, "epsilon_factor": 1.8})
    found = {}

    def evaluate(module, inputs, out):
        # The square root of epsilon_factor is in the charges.
        cell = out["cell"].view(-1, 3, 3) if "cell" in out else None
        charges, positions = out["charges"].squeeze(-1), out["pos"]
        found[BORN] = born_effective_charges(charges, positions, cell, method="phase").view(-1, 9)

    les_of(model).register_forward_hook(evaluate)
    for atoms in (crystal("cubic"), dimer()):
        published = born(model, atoms, bec="phase")
        sign = np.sign((found[BORN].numpy() * published).sum())  # a calculator fixes it
        np.testing.assert_allclose(published, sign * found[BORN], rtol=0, atol=1e-10)
        same = np.abs(born(model, atoms) - published).max() < 1e-10
        assert same == (not atoms.pbc.any())


def test_batch_in_any_order(nequip_model, nequip_data):
    """Of structures with all, two and no periodic axes, whose atoms and edges are mixed."""
    slab = crystal("triclinic")
    slab.pbc = [True, True, False]
    frames = [crystal("left-handed"), dimer(), slab]
    for remove_mean in (True, False):
        les = {**SETTINGS, "compute_bec": True, "remove_mean": remove_mean}
        if not remove_mean:
            les["neutrality"] = "none"
        model = nequip_model(les=les)
        single = torch.cat([model(nequip_data(frame))[BORN] for frame in frames])
        batch = nequip_data(*frames)
        torch.testing.assert_close(model(dict(batch))[BORN], single, rtol=0, atol=1e-11)
        generator = torch.Generator().manual_seed(4)
        order = torch.randperm(len(batch["pos"]), generator=generator)
        edges = torch.randperm(batch["edge_index"].shape[1], generator=generator)
        shuffled = {
            **batch,
            "edge_index": torch.argsort(order)[batch["edge_index"]][:, edges],
            "edge_cell_shift": batch["edge_cell_shift"][edges],
        }
        for key in ("pos", "atom_types", "batch"):
            shuffled[key] = batch[key][order]
        torch.testing.assert_close(model(shuffled)[BORN], single[order], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_gradient_of_a_loss(kind, nequip_model, nequip_data):
    """Of weights before and after features are taken from other atoms, against differences."""
    model = nequip_model(kind, les={**SETTINGS, "compute_bec": True}).train()
    batch = nequip_data(crystal("triclinic"), dimer())

    def loss():
        return model(dict(batch))[BORN].square().sum()

    loss().backward()
    layers = {
        "nequip": ["layer0_convnet.conv.linear_2.weight", "layer1_convnet.conv.linear_1.weight"],
        "allegro": ["tensor_embed.env_embed_linear.mlp.0.weight"],
    }
    parameters = dict(model.model.func.named_parameters())
    for name in [*layers[kind], "pair_potential.readout.linear.weight"]:
        weight = parameters[name]
        index = np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)

        def shifted(amount, weight=weight, index=index):
            with torch.no_grad():
                weight[index] += amount
            value = loss().item()
            with torch.no_grad():
                weight[index] -= amount
            return value

        expected = float(derivative(shifted))
        assert weight.grad[index].item() == pytest.approx(expected, rel=1e-6), name


def test_no_training_no_graph(nequip_model, nequip_data):
    """Nothing of an evaluation is kept."""
    model = nequip_model(les={**SETTINGS, "compute_bec": True})
    assert not model(nequip_data(crystal()))[BORN].requires_grad
    assert les_of(model).edge_record.gathered == {}
    les_of(model).compute_bec = False
    model(nequip_data(crystal()))
    assert les_of(model).edge_record.gathered == {}


# --- copies, and models from elsewhere


def pickled(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def of_an_earlier_release(model):
    """What is left of ``model`` if it was pickled before there were exact ones."""
    les = les_of(model)
    del les.edge_record
    for module in model.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return pickled(model)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, of_an_earlier_release])
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_copies(kind, copied, nequip_model, born):
    model = nequip_model(kind, les=SETTINGS)
    expected = born(model, crystal())
    other = copied(model)
    model.model = None  # which no copy needs
    np.testing.assert_array_equal(born(other, crystal()), expected)


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_les_that_was_added(kind, nequip_model, born):
    model = AddLES(nequip_model(kind), les=SETTINGS).eval()
    atoms = crystal("cubic")
    one, two = born(model, atoms), born(model, atoms.repeat((1, 2, 1)))
    np.testing.assert_allclose(two, np.tile(one, (2, 1)), rtol=0, atol=1e-10)


# --- what is refused


class OtherInteraction(InteractionBlock):
    """It might take features from anywhere."""


class Fused(TensorProductScatter):
    """As kernels that keep the features they gather to themselves."""


def replace(model, old, new):
    """Make all modules of the class ``old`` in ``model`` ones of the class ``new``."""
    found = [module for module in model.modules() if type(module) is old]
    assert found
    for module in found:
        module.__class__ = new
    return model


@pytest.mark.parametrize(
    ("old", "new"), [(InteractionBlock, OtherInteraction), (TensorProductScatter, Fused)]
)
def test_unknown_modules_are_refused(old, new, nequip_model, nequip_data, born):
    """By name; their published approximation is not."""
    model = replace(nequip_model(les=SETTINGS), old, new)
    expected = born(nequip_model(les=SETTINGS), crystal(), bec="phase")
    np.testing.assert_array_equal(born(model, crystal(), bec="phase"), expected)
    message = f"not available for a model with {new.__name__}: it is not known where it takes"
    with pytest.raises(ValueError, match=message):
        born(model, crystal())
    assert BORN not in model(nequip_data(crystal()))


def test_export_of_unknown_modules(nequip_model, nequip_data, monkeypatch, caplog):
    """It goes without what cannot be evaluated, and says so: targets do not ask for all."""
    model = replace(nequip_model(les=SETTINGS), TensorProductScatter, Fused)
    monkeypatch.setattr("les_nequip.module.is_exporting", lambda: True)
    LES.set_les_max_cell(model, 9.0)
    les_of(model).reach.setting = "periodic"
    with caplog.at_level("WARNING", "les"):
        assert json.loads(model.metadata["les"])["bec_method"] is None
    assert "the compiled model has no Born effective charges: exact Born" in caplog.text
    assert BORN not in model(nequip_data(crystal()))
    les_of(model).compute_bec = True
    with pytest.raises(ValueError, match="for a model with Fused"):
        model(nequip_data(crystal()))


def test_unknown_embedding_is_refused(nequip_model, born):
    """Modules are known by class and package."""
    from allegro.nn import ProductTypeEmbedding

    # What someone else calls by the same name is something else.
    other = type("ProductTypeEmbedding", (ProductTypeEmbedding,), {"__module__": "elsewhere"})
    model = replace(nequip_model("allegro", les=SETTINGS), ProductTypeEmbedding, other)
    with pytest.raises(ValueError, match="for a model with ProductTypeEmbedding"):
        born(model, crystal())


def test_modules_that_change_no_data_are_not_asked(nequip_model, born):
    other = type("Other", (PolynomialCutoff,), {})
    expected = born(nequip_model(les=SETTINGS), crystal())
    model = replace(nequip_model(les=SETTINGS), PolynomialCutoff, other)
    np.testing.assert_array_equal(born(model, crystal()), expected)


def test_a_changed_model_is_refused(nequip_model, born):
    """The new tensor product does not tell what it gets."""
    model = nequip_model(les=SETTINGS)
    interaction = next(x for x in model.modules() if isinstance(x, InteractionBlock))
    interaction.tp_scatter.tp._forward_pre_hooks.clear()
    with pytest.raises(ValueError, match="with InteractionBlock: it was changed after"):
        born(model, crystal())


def test_a_model_without_forces_is_refused(nequip_model, nequip_data):
    model = nequip_model(les={"compute_bec": True}, do_derivatives=False)
    with pytest.raises(ValueError, match="`compute_bec` needs a model that computes forces"):
        model(nequip_data(crystal()))


def test_les_alone_is_refused(nequip_data):
    """It does not see where its features come from."""
    irreps = {"node_features": "4x0e", "atomic_energy": "0e"}
    les = LES(["H", "O"], irreps, compute_bec=True).double()
    data = nequip_data(crystal())
    data["pos"].requires_grad_()
    data["node_features"] = torch.cos(data["pos"][:, :1] * torch.ones(4))
    data["atomic_energy"] = torch.zeros(6, 1)
    with pytest.raises(ValueError, match="need a model that nequip has built around LES"):
        les(data)
