"""Training on Born effective charges and dipoles, in upstream's loss and metrics."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from ase.io import read, write
from nequip.train import EnergyForceLoss, MeanSquaredError, MetricsManager

from les.backends import TrainingJob, get_backend
from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStateTrainingTests,
    FieldTrainingTests,
    ResponseTrainingTests,
    UnusedSettingsTests,
)
from les_nequip import ComputeResponses, WithResponses, load_model, save_model

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture(scope="module")
def short_averages(make_config):
    """A function that makes a configuration whose averaged weights follow a few steps."""

    def make(kind):
        path = make_config(kind=kind)
        config = yaml.safe_load(path.read_text())
        config["training_module"]["ema_decay"] = 0.5
        path.write_text(yaml.safe_dump(config))
        return path

    return make


@pytest.fixture(scope="module")
def small_options(short_averages):
    return {"name": "small", "config": short_averages("nequip"), "seed": 3}


class TestChargesFirst(ChargesFirstTests):
    of_the_model = ()
    rounding = 1e-9  # in double precision


class TestResponseTraining(ResponseTrainingTests):
    learning: ClassVar = {"epochs": 20, "learning_rate": 0.2}
    weight = 100.0


@pytest.mark.parametrize("fixed", [False, True])
def test_oxidation_states_have_a_sign(nequip_model, monkeypatch, fixed):
    """What is read is not negated where it would no longer belong to them."""
    asked = []
    monkeypatch.setattr("les_nequip.callback.orient_charges", lambda *_: asked.append(True))
    model = nequip_model("allegro", les={"use_fixed_atomic_charges": fixed})
    ComputeResponses().on_train_start(SimpleNamespace(global_step=0, train_dataloader=None), model)
    assert bool(asked) is not fixed


class TestChargedTraining(ChargedTrainingTests):
    pass


class TestFieldTraining(FieldTrainingTests):
    learning: ClassVar = {"epochs": 60, "learning_rate": 0.1}


class TestUnusedSettings(UnusedSettingsTests):
    pass


class TestChargeStateTraining(ChargeStateTrainingTests):
    @pytest.fixture
    def learning_states(self, short_averages):
        path = short_averages("nequip")
        config = yaml.safe_load(path.read_text())
        for section in ("loss", "val_metrics"):
            coefficients = config["training_module"][section]["coeffs"]
            coefficients.update({name: 100.0 for name in coefficients if "energy" in name})
        path.write_text(yaml.safe_dump(config))
        return {"config": path, "epochs": 30, "learning_rate": 0.1}


def test_allegro(les_command, short_averages, arguments, data_files, tmp_path):
    """Whose features are those of edges, none of which come from other atoms."""
    for path in data_files:
        frames = read(path, ":4")
        for atoms in frames:
            nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
            atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
        write(tmp_path / path.name, frames, format="extxyz")
    files = {f"{path.stem}_file": tmp_path / path.name for path in data_files}
    settings = {"config": short_averages("allegro"), "epochs": 20, "learning_rate": 0.2}
    options = arguments(tmp_path / "run", **files, **settings, bec_weight=100)
    assert les_command("train", "allegro", "--les", *options) == 0
    job = TrainingJob("small", tmp_path / "run", tmp_path / "none.yaml", *files.values())
    errors = [record.valid_bec_rmse for record in get_backend("allegro").history(job)]
    assert min(errors) < 0.8 * errors[0]


# --- upstream's metrics


def batch(**labels):
    return {
        "total_energy": torch.tensor([[1.0], [2.0]]),
        "num_atoms": torch.tensor([2, 3]),
        **labels,
    }


def loss(**options):
    metrics = functools.partial(EnergyForceLoss, per_atom_energy=False)
    return WithResponses(metrics, {"born_effective_charges": 2.0}, **options)


def written_out():
    terms = [
        {"field": field, "metric": MeanSquaredError(), "coeff": 1.0}
        for field in ("total_energy", "forces")
    ]
    metrics = functools.partial(MetricsManager, metrics=terms)
    return WithResponses(metrics, {"born_effective_charges": 2.0})


@pytest.mark.parametrize("loss", [loss, written_out])
def test_labels_that_are_nan_do_not_count(loss):
    """In any term; coefficients are relative, as upstream's."""
    bec, forces = torch.randn(5, 3, 3), torch.randn(5, 3)
    labels = {"forces": forces.clone(), "born_effective_charges": bec.clone()}
    labels["forces"][:2] = labels["born_effective_charges"][2:] = torch.nan
    predicted = {"forces": forces + 0.5, "born_effective_charges": bec + 0.25}
    found = loss()(batch(**predicted), {**batch(**labels), "total_energy": torch.ones(2, 1)})
    expected = (0.5 + 0.5**2 + 2.0 * 0.25**2) / 4.0
    assert float(found["weighted_sum"]) == pytest.approx(expected)


def test_a_batch_without_labels():
    """It has no term, and no need for the response to be computed."""
    labels = {
        "forces": torch.zeros(5, 3),
        "born_effective_charges": torch.full((5, 3, 3), torch.nan),
    }
    found = loss()(batch(forces=torch.ones(5, 3)), batch(**labels))
    assert float(found["weighted_sum"]) == pytest.approx(0.25)
    labels["born_effective_charges"] = torch.zeros(5, 3, 3)
    with pytest.raises(ValueError, match=r"name the callback les_nequip\.ComputeResponses"):
        loss()(batch(forces=torch.ones(5, 3)), batch(**labels))


def test_terms_that_are_refused():
    metrics = functools.partial(EnergyForceLoss, per_type_forces_coeffs={"H": 1.0, "O": 1.0})
    with pytest.raises(ValueError, match="'forces_mse' of the loss or metrics is one per type"):
        WithResponses(metrics, {}, type_names=["H", "O"])
    with pytest.raises(ValueError, match="`error` must be one of mse, rmse, mae, got 'max'"):
        loss(error="max")


def test_compiled_training_is_refused(refused, arguments, tmp_path):
    error = refused(
        *("--les", *arguments(tmp_path), "--bec_weight=1"),
        "training_module.model.compile_mode=compile",
    )
    assert "cannot be trained on with `compile_mode: compile`" in error


def test_a_start_with_the_other_sign(train, arguments, data_files, tmp_path):
    """It is turned before the first step: from both signs the run is the same."""
    frames = read(data_files[0], ":4")
    for atoms in frames:
        nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
    write(tmp_path / "bec.xyz", frames, format="extxyz")
    train("--les", *arguments(tmp_path / "start", epochs=1))
    model = load_model(tmp_path / "start" / "small.nequip.pt")
    files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "bec.xyz")
    (les,) = (module for module in model.modules() if getattr(module, "is_les", False))
    states = []
    for name in ("one", "other"):
        save_model(model, tmp_path / f"{name}.nequip.pt")
        given = {**files, "bec_weight": 10, "epochs": 1, "from": tmp_path / f"{name}.nequip.pt"}
        train("--les", *arguments(tmp_path / name, **given))
        states.append(load_model(tmp_path / name / "small.nequip.pt").state_dict())
        les.readout.negate()
    weights = [key for key in states[0] if "readout" in key]
    assert weights
    for key in weights:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
