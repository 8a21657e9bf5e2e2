"""Training on Born effective charges and dipoles."""

from __future__ import annotations

import pytest

import les_cace.training
from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStartTests,
    ChargeStateTrainingTests,
    NoFieldTrainingTests,
    OtherSignTests,
    ResponseTrainingTests,
    SettledEnergiesTests,
)
from les_cace.backend import CACEBackend

OPTIONS = {
    "name": "small",
    "model": "{n_atom_basis: 2, cutoff: 3.5, n_rbf: 3, n_radial_basis: 2, max_l: 1, max_nu: 2}",
    "readout": "{n_layers: 2, n_hidden: 4}",
    "stages": "[{epochs: 2, energy: 1, forces: 10}]",
    "batch_size": 4,
    "seed": 4,
}


@pytest.fixture(scope="module")
def small_options():
    return OPTIONS


class TestChargesFirst(ChargesFirstTests):
    pass


class TestChargeStart(ChargeStartTests):
    checkpoint = "small_checkpoint.cace.pt"
    trained = "small.cace.pt"


class TestSettledEnergies(SettledEnergiesTests):
    module = les_cace.training
    trained = "small.cace.pt"
    checkpoint = "small_checkpoint.cace.pt"
    reference_energies = "atomic_energies"


class TestResponseTraining(ResponseTrainingTests):
    learning = {"epochs": 25, "learning_rate": 0.03}  # noqa: RUF012
    weight = 1000.0


class TestChargedTraining(ChargedTrainingTests):
    pass


class TestFieldTraining(NoFieldTrainingTests):
    pass


class TestChargeStateTraining(ChargeStateTrainingTests):
    @pytest.fixture
    def learning_states(self):
        stages = "[{epochs: 60, energy: 100, forces: 1}]"
        return {"stages": stages, "learning_rate": 0.03}


class TestOtherSign(OtherSignTests):
    adapter = les_cace
    backend = CACEBackend()
    changes = {"model": None, "readout": None}  # noqa: RUF012

    @pytest.fixture
    def negate(self):
        return lambda model: model.charge_readout.negate()
