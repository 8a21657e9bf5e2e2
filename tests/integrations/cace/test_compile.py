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
    pytest.mark.filterwarnings(r"ignore:::torch\."),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


def test_compiled(small):
    torch.manual_seed(7)
    model = CACE({**small, "max_l": 2}, {"output_scaling_factor": 0.3}).double()
    before = copy.deepcopy(model.state_dict())
    compiled = LESCalculator(model, bec=True, compile=True)
    eager = LESCalculator(model, bec=True)
    for structure in (crystal("triclinic"), dimer(), crystal("cubic")):
        expected = results_of(eager, structure)
        for key, value in results_of(compiled, structure).items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-10, atol=1e-12, err_msg=key)
    assert compiled.model is not model
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
