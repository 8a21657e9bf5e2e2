"""The compiled representation against the eager one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_cace import CACE, LESCalculator

#: Of the compiler, about its own ways.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(r"ignore:::torch\."),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.mark.parametrize(
    ("bec", "messages"),
    [
        ("phase", {"num_message_passing": 1}),
        ("exact", {"num_message_passing": 2, "message_types": ["M", "Ar", "Bchi"]}),
    ],
)
def test_compiled(small, bec, messages):
    """Exact ones need derivatives of features between the layers."""
    torch.manual_seed(7)
    arguments = {**small, **messages, "max_l": 1, "max_nu": 2}
    model = CACE(arguments, {"output_scaling_factor": 0.3}).double()
    before = copy.deepcopy(model.state_dict())
    compiled = LESCalculator(model, bec=bec, compile=True)
    eager = LESCalculator(model, bec=bec)
    for structure in (crystal("triclinic"), dimer(), crystal("cubic")):
        expected = results_of(eager, structure)
        for key, value in results_of(compiled, structure).items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-10, atol=1e-12, err_msg=key)
    assert compiled.model is not model
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_copies_are_not_compiled(small):
    """What is compiled belongs to the weights of one model."""
    calculator = LESCalculator(CACE({**small, "max_l": 1}, {}).double(), bec=True, compile=True)
    calculator.calculate(dimer())
    other = copy.deepcopy(calculator.model)
    with torch.no_grad():
        for parameter in other.representation.parameters():
            parameter.mul_(1.1)
    found = LESCalculator(other)
    expected = LESCalculator(CACE(**other.arguments).double())
    expected.model.load_state_dict(other.state_dict())
    for key in ("energy", "charges"):
        np.testing.assert_allclose(
            results_of(found, dimer())[key], results_of(expected, dimer())[key], rtol=1e-12
        )
    bec = [results_of(LESCalculator(x, bec=True), dimer()) for x in (other, expected.model)]
    key = "born_effective_charges"
    np.testing.assert_allclose(bec[0][key], bec[1][key], rtol=0, atol=1e-12)
