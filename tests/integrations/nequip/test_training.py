"""Training through upstream's command line: short real runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read

from les.backends import TrainingJob, get_backend
from les.legacy import settings_of_new_models
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer

pytestmark = pytest.mark.usefixtures("nequip_state")

BACKEND = get_backend("nequip")
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL",
    "units": "metal",
    "chemical_species": ["H", "O"],
}
LES_SLOT = "{_target_: les_nequip.LES, neutrality: shift, element_charges: true}"


@pytest.fixture(scope="module")
def make_job(make_config, data_files):
    """A function that describes a run of two epochs in a folder."""

    def make(folder, *extra, config=None, **settings):
        train_file, valid_file = data_files
        return TrainingJob(
            "small",
            Path(folder),
            config or make_config(),
            **{"train_file": train_file, "valid_file": valid_file, "seed": 3, **settings},
            extra=tuple(map(str, extra)),
        )

    return make


@pytest.fixture(scope="module")
def train(les_command, make_job):
    """A function that runs ``les train nequip``, which must succeed, and returns its job."""

    def run(flag, folder, *extra, **settings):
        job = make_job(folder, *extra, **settings)
        assert les_command("train", "nequip", flag, *BACKEND.training_arguments(job)) == 0
        return job

    return run


@pytest.fixture(scope="module")
def les_run(train, tmp_path_factory):
    return train("--les", tmp_path_factory.mktemp("les"))


@pytest.fixture(scope="module")
def short_range_run(train, tmp_path_factory):
    return train("--no-les", tmp_path_factory.mktemp("sr"))


def weights(folder, name="best"):
    """Weights of the trained model, without what an average or optimiser adds."""
    content = torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in content.items() if key.startswith("model.")}


def folder(job):
    """Where upstream leaves its files."""
    return job.directory / job.name


def calculator(job, **options):
    """It needs no trust."""
    return BACKEND.calculator(BACKEND.trained_model(job), **options)


def section_of(job):
    """The model section that upstream saw."""
    content = torch.load(folder(job) / "best.ckpt", weights_only=True)
    return content["hyper_parameters"]["model"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


# --- runs


def test_run_with_les(les_run):
    results = results_of(calculator(les_run, bec=True), crystal())
    assert results["les_energy"] != 0.0
    assert np.isfinite(results["born_effective_charges"]).all()
    expected = {"_target_": "les_nequip.LES", **settings_of_new_models(True)}
    assert section_of(les_run)["pair_potential"] == expected
    overrides = yaml.safe_load((folder(les_run) / ".hydra" / "overrides.yaml").read_text())
    assert any("pair_potential" in text and "les_nequip.LES" in text for text in overrides)


def test_charges_are_trained(les_run, nequip_model):
    section = dict(section_of(les_run))
    section.pop("_target_")
    start = nequip_model(**{**section, "dtype": section["model_dtype"]}).state_dict()
    trained = weights(folder(les_run))
    for key, value in start.items():
        if "readout" in key and "pair_potential" in key and key.endswith("weight"):
            change = trained[f"model.sole_model.{key}"] - value
            assert change.abs().max() > 1e-4, key


def test_history(les_run):
    history = BACKEND.history(les_run)
    assert [record.epoch for record in history] == [0, 1]
    for record in history:
        assert record.seconds > 0
        numbers = (record.train_loss, record.valid_loss)
        assert np.isfinite([*numbers, record.valid_energy_rmse, record.valid_force_rmse]).all()


def test_unfinished_run(make_job, les_run, tmp_path):
    with pytest.raises(FileNotFoundError, match="nequip has not finished"):
        BACKEND.trained_model(make_job(tmp_path))
    (tmp_path / "small.nequip.pt").touch()
    with pytest.raises(FileNotFoundError, match="nequip has not finished"):
        BACKEND.trained_model(make_job(tmp_path))
    assert BACKEND.history(make_job(tmp_path)) == []


def run_upstream(job, folder, *overrides):
    """``nequip-train`` in a process of its own."""
    program = Path(sys.executable).with_name("nequip-train")
    arguments = [
        *("--config-path", job.config.parent, "--config-name", job.config.stem),
        *(f"train_file={job.train_file}", f"valid_file={job.valid_file}", f"seed={job.seed}"),
        *(f"hydra.run.dir={folder}", *overrides),
    ]
    result = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-4000:]


def test_upstreams_own_command(les_run, make_job, tmp_path):
    """``nequip-train`` with the override gives the same, bit for bit."""
    slot = f"+training_module.model.pair_potential={LES_SLOT}"
    run_upstream(make_job(tmp_path), tmp_path / "run", slot)
    assert_same(weights(tmp_path / "run"), weights(folder(les_run)))


def test_without_les_is_upstreams_own_run(short_range_run, make_job, tmp_path):
    run_upstream(make_job(tmp_path), tmp_path / "run")
    expected = weights(folder(short_range_run))
    assert_same(weights(tmp_path / "run"), expected)
    assert not any("pair_potential" in key for key in expected)


def test_zbl_in_the_configuration(train, make_config, tmp_path):
    """LES shares its slot, with settings from a file."""
    (tmp_path / "les.yaml").write_text("sigma: 1.2\nmax_cell: 20.0\nboundary: mixed\n")
    config = make_config(pair_potential=ZBL)
    options = ["--les_arguments", tmp_path / "les.yaml"]
    job = train("--les", tmp_path / "run", *options, config=config, epochs=1)
    slot = section_of(job)["pair_potential"]
    assert slot["_target_"] == "les_nequip.PairPotentials"
    assert [part["_target_"] for part in slot["potentials"]] == [ZBL["_target_"], "les_nequip.LES"]
    calc = calculator(job)
    assert (calc.settings["sigma"], calc.settings["boundary"]) == (1.2, "mixed")
    close = dimer()
    close.positions[1] *= 0.3
    assert results_of(calc, close)["energy"] > results_of(calc, dimer())["energy"] + 5.0


# The first of the checkpoint callbacks, which upstream takes, is that of the best epoch.
@pytest.mark.filterwarnings("ignore:.*multiple `ModelCheckpoint` callbacks:UserWarning")
def test_writer_of_upstream(train, make_config, data_files, tmp_path):
    """It knows charges and Born effective charges."""
    config = make_config(pair_potential={"_target_": "les_nequip.LES", "compute_bec": True})
    content = yaml.safe_load(config.read_text())
    content["run"] = ["train", "test"]
    content["data"]["test_file_path"] = str(data_files[1])
    content["data"]["test_dataloader"] = content["data"]["val_dataloader"]
    content["training_module"]["test_metrics"] = content["training_module"]["val_metrics"]
    writer = {
        "_target_": "nequip.train.callbacks.TestTimeXYZFileWriter",
        "out_file": str(tmp_path / "test"),
        "extra_fields": ["charges", "born_effective_charges", "les_energy"],
        "chemical_symbols": ["H", "O"],
    }
    content["trainer"]["callbacks"].append(writer)
    config.write_text(yaml.safe_dump(content))
    job = train("--les", tmp_path / "run", config=config, epochs=1)
    frames = read(tmp_path / "test_dataset0.xyz", ":")
    assert len(frames) == 4
    calc = calculator(job, bec=True)
    for frame in frames:
        results = results_of(calc, frame)
        for key in ("charges", "born_effective_charges"):
            written = calc.charge_sign.sign * frame.calc.results[key].reshape(results[key].shape)
            np.testing.assert_allclose(written, results[key], atol=1e-6)
        assert frame.info["les_energy"] == pytest.approx(results["les_energy"], abs=1e-6)
