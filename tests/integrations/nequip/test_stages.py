"""Trainings that change on their way: weights in the loss, and what is trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import yaml
from nequip.train import EnergyForceLoss
from omegaconf import OmegaConf

import les_nequip.atomic_energies
from les.testing import SettledEnergiesTests
from les_nequip import SecondStage
from les_nequip.atomic_energies import energy_overrides

pytestmark = pytest.mark.usefixtures("nequip_state")

TERM = "per_atom_energy_mse"
STAGE = {"_target_": "les_nequip.SecondStage", "start": 0.5, "factors": {TERM: 10.0}}


@pytest.fixture(scope="module")
def backend_name():
    return "nequip"


@pytest.fixture(scope="module")
def staged_config(make_config):
    """Two stages in epochs that depend only on those before."""
    path = make_config("staged")
    content = yaml.safe_load(path.read_text())
    callbacks = content["trainer"]["callbacks"]
    content["trainer"]["callbacks"] = [
        *(each for each in callbacks if not each["_target_"].endswith("SecondStage")),
        STAGE,
    ]
    content["data"]["train_dataloader"]["shuffle"] = False
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def small_options(staged_config):
    return {"config": staged_config, "name": "run", "epochs": 4}


class TestSettledEnergies(SettledEnergiesTests):
    module = les_nequip.atomic_energies
    trained = "run.nequip.pt"
    killed_at = ("last.ckpt", 3)
    killed_late = exits = True

    @pytest.fixture(autouse=True)
    def one_stage(self, staged_config, tmp_path):
        content = yaml.safe_load(staged_config.read_text())
        content["trainer"]["callbacks"].remove(STAGE)
        path = tmp_path / "one_stage.yaml"
        path.write_text(yaml.safe_dump(content))
        self.configs = {1: path, 2: staged_config}

    def stages(self, arguments, folder, n_stages, **changes):
        return arguments(folder, epochs=3, config=self.configs[n_stages], **changes)

    def epochs_done(self, folder, trainer, *_):
        return trainer.current_epoch

    def reference_energies_in(self, folder):
        (energies,) = (x for key, x in content_of(folder)["state_dict"].items() if "shifts" in key)
        return energies


def content_of(folder):
    return torch.load(folder / "run" / "last.ckpt", weights_only=True)


def coefficients(folder):
    """Those of the loss in the last epoch, relative to that of the forces."""
    found = content_of(folder)["state_dict"]["loss._extra_state"]["coeff_dict"]
    return {name: value / found["forces_mse"] for name, value in found.items()}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_run_that_is_killed(n, killed, train, arguments, tmp_path):
    """In the first stage, before the first epoch of the second one, and in that."""
    for name in ("whole", "killed"):
        options = arguments(tmp_path / name)
        if name == "killed":
            with pytest.raises(SystemExit):
                killed("last.ckpt", n, "--les", *options)
        train("--les", *options, "--resume")
        assert coefficients(tmp_path / name) == pytest.approx({TERM: 10.0, "forces_mse": 1.0})
    whole, other = (content_of(tmp_path / name)["state_dict"] for name in ("whole", "killed"))
    for key, value in whole.items():
        if key.startswith("model."):
            torch.testing.assert_close(other[key], value, rtol=0, atol=1e-9)


def test_a_longer_run_goes_back_to_the_first_stage():
    """With the coefficients that it had, also where it continues from one of the second."""
    loss = EnergyForceLoss(coeffs={"total_energy": 2.0, "forces": 6.0})
    module, first = SimpleNamespace(loss=loss), SecondStage(0.75, {TERM: 5.0})
    found = []

    def epochs(stage, n_epochs, start):
        stage.on_train_start(SimpleNamespace(max_epochs=n_epochs), module)
        for epoch in range(start, n_epochs):
            trainer = SimpleNamespace(max_epochs=n_epochs, current_epoch=epoch)
            stage.on_train_epoch_start(trainer, module)
            entries = loss.entries
            found.append(entries[TERM].coeff / entries["forces_mse"].coeff)

    epochs(first, 4, 0)
    again = SecondStage(0.75, {TERM: 5.0})
    again.load_state_dict(first.state_dict())
    epochs(again, 8, 4)
    assert found == pytest.approx([x / 3 for x in [1, 1, 1, 5, 1, 1, 5, 5]])
    with pytest.raises(ValueError, match=r"'energy', which is no term .*per_atom_energy_mse, for"):
        epochs(SecondStage(0.5, {"energy": 2.0}), 4, 0)


def test_energies_that_cannot_be_fitted(train, arguments, make_config, tmp_path, capsys):
    """One for all types, where each must have its own."""
    train("--les", *arguments(tmp_path, config=make_config(per_type_energy_shifts=0.0), epochs=1))
    assert (
        "energies are not fitted: that needs one model with `per_type_" in capsys.readouterr().out
    )


def test_option_of_atomic_energies(make_config):
    """It adds the callback to configurations without it, and takes it out of others."""
    config = OmegaConf.load(make_config())
    assert energy_overrides(config, None) == energy_overrides(config, "fit") == []
    removed, added = energy_overrides(config, "keep")
    assert removed == "~trainer.callbacks"
    assert "SecondStage" in added
    assert "FitAtomicEnergies" not in added
    del config.trainer.callbacks[-1]
    assert energy_overrides(config, "keep") == []
    (*_, added) = energy_overrides(config, "fit")
    assert "les_nequip.FitAtomicEnergies" in added


@pytest.mark.parametrize(
    ("start", "factor", "message"),
    [(0.0, 1.0, "`start` must be between 0 and 1, got 0.0"), (0.5, -1.0, "must be above 0, got")],
)
def test_settings_out_of_range(start, factor, message):
    with pytest.raises(ValueError, match=message):
        SecondStage(start, {TERM: factor})


def test_charges_first(train, arguments, tmp_path):
    """Against a run in which nothing moves; with averages of the weights."""
    runs = {
        "still": {"learning_rate": 1e-14, "epochs": 1},
        "first": {"freeze_short_range_epochs": 1, "epochs": 1},
        "then": {"freeze_short_range_epochs": 1, "epochs": 2},
    }
    states = {}
    for name, changes in runs.items():
        train("--les", *arguments(tmp_path / name, **changes))
        states[name] = content_of(tmp_path / name)["state_dict"]
    moved = {
        name: {
            ".pair_potential." in key
            for key, value in state.items()
            if key.startswith("model.") and torch.is_tensor(value) and value.numel()
            if (value - states["still"][key]).abs().max() > 1e-9
        }
        for name, state in states.items()
    }
    assert moved == {"still": set(), "first": {True}, "then": {True, False}}


def test_charges_first_of_a_compiled_model(refused, arguments, make_config, tmp_path):
    config = make_config(compile_mode="compile")
    options = arguments(tmp_path, config=config, freeze_short_range_epochs=1)
    assert "not possible with `compile_mode: compile`" in refused("--les", *options)
