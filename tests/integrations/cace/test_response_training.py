"""Training on Born effective charges and dipoles."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.io import read, write

from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStateTrainingTests,
    NoFieldTrainingTests,
    ResponseTrainingTests,
)
from les_cace import load_model, save_model

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


def test_a_start_with_the_other_sign(train, arguments, data_files, tmp_path, caplog):
    """It is turned before the first step: from both signs the run is the same."""
    caplog.set_level("INFO", logger="les")
    frames = read(data_files[0], ":")
    for atoms in frames:
        nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
    write(tmp_path / "bec.xyz", frames, format="extxyz")
    train("--les", *arguments(tmp_path / "start"))
    model = load_model(tmp_path / "start" / "small.cace.pt")
    files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "bec.xyz")
    histories, states = [], []
    for name in ("one", "other"):
        save_model(model, tmp_path / f"{name}.cace.pt")
        given = {**files, "bec_weight": 10, "model": None, "readout": None}
        options = arguments(tmp_path / name, **given)
        train("--les", *options, f"--from={tmp_path / f'{name}.cace.pt'}")
        history = json.loads((tmp_path / name / "small_history.json").read_text())
        histories.append([{**record, "seconds": 0} for record in history])
        states.append(load_model(tmp_path / name / "small.cace.pt").state_dict())
        model.charge_readout.negate()
    assert caplog.text.count("the sign of all charges was changed") >= 1
    assert histories[0] == histories[1]
    for key, value in states[0].items():
        assert torch.equal(states[1][key], value), key
