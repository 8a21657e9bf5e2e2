"""Training on Born effective charges and dipoles, with upstream's trainer."""

from __future__ import annotations

import pytest
import torch
from chgnet.trainer.trainer import CombinedLoss

import les_chgnet.training
from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStartTests,
    ChargeStateTrainingTests,
    NoFieldTrainingTests,
    OtherSignTests,
    ResponseTrainingTests,
    SettledEnergiesTests,
    UnusedSettingsTests,
)
from les_chgnet.backend import CHGNetBackend
from les_chgnet.loss import ResponseLoss


class TestChargesFirst(ChargesFirstTests):
    pass


class TestChargeStart(ChargeStartTests):
    checkpoint = "small_checkpoint.pth.tar"
    trained = "small.pth.tar"
    rows = (1, 8)


class TestSettledEnergies(SettledEnergiesTests):
    module = les_chgnet.training
    trained = "small.pth.tar"
    checkpoint = "small_checkpoint.pth.tar"
    reference_energies = "composition_model.fc.weight"


class TestResponseTraining(ResponseTrainingTests):
    learning = {"epochs": 12, "learning_rate": 0.01}  # noqa: RUF012
    weight = 100.0


class TestChargedTraining(ChargedTrainingTests):
    pass


class TestUnusedSettings(UnusedSettingsTests):
    pass


class TestFieldTraining(NoFieldTrainingTests):
    pass


class TestChargeStateTraining(ChargeStateTrainingTests):
    @pytest.fixture
    def learning_states(self):
        return {"epochs": 30, "learning_rate": 0.02, "energy_loss_ratio": 10}


def test_structures_without_an_energy_do_not_count():
    """Upstream weighs the errors of batches with their sizes."""
    loss = ResponseLoss(CombinedLoss(target_str="e", energy_loss_ratio=1, criterion="MSE"), {})
    out = loss({"e": torch.tensor([torch.nan, 1.0])}, {"e": torch.tensor([5.0, 1.5])})
    assert (float(out["loss"]), float(out["e_MAE"]), out["e_MAE_size"]) == (0.25, 0.5, 1)


class TestOtherSign(OtherSignTests):
    adapter = les_chgnet
    backend = CHGNetBackend()
    changes = {"model": None, "epochs": 1}  # noqa: RUF012

    @pytest.fixture
    def negate(self):
        return lambda model: model.les.atomwise.negate()
