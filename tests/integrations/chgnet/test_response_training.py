"""Training on Born effective charges and dipoles, with upstream's trainer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.io import read, write
from chgnet.trainer.trainer import CombinedLoss

from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStateTrainingTests,
    NoFieldTrainingTests,
    ResponseTrainingTests,
    UnusedSettingsTests,
)
from les_chgnet import load_model, save_model
from les_chgnet.loss import ResponseLoss


class TestChargesFirst(ChargesFirstTests):
    pass


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


def test_a_start_with_the_other_sign(train, arguments, data_files, tmp_path, caplog):
    """It is turned before the first step: from both signs the run is the same."""
    caplog.set_level("INFO", logger="les")
    frames = read(data_files[0], ":4")
    for atoms in frames:
        nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
    write(tmp_path / "bec.xyz", frames, format="extxyz")
    train("--les", *arguments(tmp_path / "start"))
    model = load_model(tmp_path / "start" / "small.pth.tar")
    files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "bec.xyz")
    losses = []
    for name in ("one", "other"):
        save_model(model, tmp_path / f"{name}.pth.tar")
        given = {**files, "bec_weight": 10, "model": None, "epochs": 1}
        options = arguments(tmp_path / name, **given)
        train("--les", *options, f"--from={tmp_path / f'{name}.pth.tar'}")
        (record,) = json.loads((tmp_path / name / "small_history.json").read_text())
        losses.append({key: value for key, value in record.items() if key != "seconds"})
        model.les.atomwise.negate()
    assert caplog.text.count("the sign of all charges was changed") >= 1
    assert losses[0] == losses[1]
