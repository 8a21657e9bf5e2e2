"""Born effective charges: the shared tests with all kinds of messages, and training on them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from les.testing import ResponseTests
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_cace import CACE, LESCalculator
from les_cace.batches import collate, to_structure
from naive import NaiveRepresentation

CUTOFF = 3.0
#: Kinds of messages, and number of layers.
MESSAGES = {
    "none": ([], 0),
    "M": (["M"], 1),
    "Ar": (["Ar"], 1),
    "Bchi": (["Bchi"], 1),
    "all": (["M", "Ar", "Bchi"], 2),
}


@pytest.fixture(scope="module")
def model_with(small):
    """A function for a model with messages of :data:`MESSAGES`, which tests must not change."""
    models = {}

    def make(name):
        if name not in models:
            kinds, n_layers = MESSAGES[name]
            messages = {"message_types": kinds, "num_message_passing": n_layers}
            torch.manual_seed(6)
            arguments = {**small, "cutoff": CUTOFF, **messages}
            models[name] = CACE(arguments, {"output_scaling_factor": 0.3}).double().eval()
        return models[name]

    return make


@pytest.fixture
def batch():
    return collate([to_structure(x, CUTOFF) for x in (dimer(), crystal("triclinic"))])


class TestMessages(ResponseTests):
    #: Of two layers of messages.
    receptive_field = 3 * CUTOFF

    @pytest.fixture(params=list(MESSAGES))
    def calculator(self, request, model_with):
        def make(bec=False, **options):
            return LESCalculator(copy.deepcopy(model_with(request.param)), bec=bec, **options)

        return make


@pytest.mark.parametrize("name", ["Bchi", "all"])
def test_the_published_formula_is_for_large_cells(name, model_with):
    """Along axes that are repeated it comes closer, with the square of their length."""
    atoms = crystal("cubic")
    exact, *published = (
        results_of(LESCalculator(model_with(name), bec=bec), x)["born_effective_charges"][:6]
        for bec, x in (
            ("exact", atoms),
            ("phase", atoms.repeat((4, 4, 4))),
            ("phase", atoms.repeat((8, 8, 8))),
        )
    )
    first, second = (np.abs(x - exact).max() for x in published)
    assert first > 1e-4
    assert second == pytest.approx(first / 4.0, rel=0.05)


def test_features_that_other_code_carries(model_with, batch):
    """The plain evaluation of the formulas has other tensors, and the same response."""
    model = model_with("Bchi")
    plain = copy.deepcopy(model)
    plain.representation = NaiveRepresentation(
        model.representation, model.arguments["representation"]
    ).double()
    expected, found = (x(batch, compute_bec=True) for x in (model, plain))
    key = "born_effective_charges"
    torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-12)


def test_charges_of_another_representation(small, model_with):
    """It alone decides, whatever the features of the energy do."""
    model = model_with("all")
    own = {**small, "cutoff": 4.0, "message_types": ["Ar"]}
    torch.manual_seed(8)
    other = CACE(own, {}, charge_representation=model.arguments["representation"]).double().eval()
    other.charge_representation.load_state_dict(model.representation.state_dict())
    other.charge_readout = model.charge_readout
    for atoms in (dimer(), crystal("triclinic")):
        found, expected = (
            results_of(LESCalculator(x, bec=True), atoms)["born_effective_charges"]
            for x in (other, model)
        )
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_nothing_is_recorded_unless_needed(model_with, batch, monkeypatch):
    """The published formula and forces have no use for it."""
    model = model_with("all")
    lists = []
    evaluate = model.representation.forward

    def forward(vectors, sender, element, state=None, carried=None):
        lists.append(carried)
        return evaluate(vectors, sender, element, state, carried)

    monkeypatch.setattr(model.representation, "forward", forward)
    model(batch)
    model(batch, compute_bec=True, bec_method="phase")
    model(batch, compute_bec=True)
    assert lists[:2] == [None, None]
    degrees = len(model.representation.degree_sizes)
    assert len(lists[2]) == 2 * (1 + degrees)  # two kinds of messages take them, in both layers


def test_unknown_method(model_with, batch):
    with pytest.raises(ValueError, match="`method` must be one of exact, phase, got 'harmonic'"):
        model_with("Bchi")(batch, compute_bec=True, bec_method="harmonic")
    with pytest.raises(ValueError, match="`bec` must be true, false or one of exact, phase, got"):
        LESCalculator(model_with("Bchi"), bec="harmonic")


@pytest.mark.parametrize("name", ["Bchi", "all"])
def test_training_on_born_effective_charges(name, model_with, batch):
    """A loss on them has the gradients of finite differences, for all weights of the charges."""
    model = copy.deepcopy(model_with(name)).train()

    def loss():
        out = model(batch, compute_forces=False, compute_bec=True)
        return out["born_effective_charges"].square().sum()

    parameters = {name: x for name, x in model.named_parameters() if not name.startswith("readout")}
    last = {name for name in parameters if name.endswith("bias") and "charge_readout" in name}
    gradients = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
    for (name, parameter), gradient in zip(parameters.items(), gradients):
        if gradient is None or not gradient.any():
            assert name in last, name  # charges of a structure that are all the same
            continue
        index = int(gradient.abs().argmax())
        flat = parameter.detach().view(-1)
        step = 1e-5 * max(1.0, float(flat[index].abs()))
        flat[index] += step
        above = loss().item()
        flat[index] -= 2 * step
        below = loss().item()
        flat[index] += step
        expected = (above - below) / (2 * step)
        assert gradient.flatten()[index].item() == pytest.approx(expected, rel=1e-4), name
