"""The command ``les`` with NequIP and Allegro: configurations, labels, refusals, predictions."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from ase.io import write
from nequip.train import NequIPLightningModule

from les.backends import get_backend
from les.testing.structures import crystal, dimer
from les_nequip import LES, LESCalculator
from les_nequip.program import _reason

pytestmark = pytest.mark.usefixtures("nequip_state")

SYSTEMS = ["water", "dipeptides", "au2_mgo"]
ZBL = "{_target_: nequip.nn.pair_potential.ZBL, units: metal, chemical_species: [H, O]}"


@pytest.fixture
def arguments(data_files, tmp_path):
    """A function that makes the arguments of ``les train`` for one step of training."""

    def make(*extra, train_file=data_files[0], valid_file=data_files[1], system="water"):
        return [
            *("--config-path", get_backend("nequip").configs()[system].parent, "-cn", system),
            f"train_file='{train_file}'",
            f"valid_file='{valid_file}'",
            "elements=[H,O]",
            f"hydra.run.dir='{tmp_path / 'run'}'",
            "hydra/job_logging=stdout",
            "+trainer.fast_dev_run=1",
            "++trainer.enable_progress_bar=false",
            *extra,
        ]

    return make


@pytest.fixture
def initial_models(les_command, monkeypatch):
    """A function for the models that ``les train`` builds and trains for one step."""

    def run(name, flag, arguments):
        models = []
        build = NequIPLightningModule._build_model

        def capture(*positional):
            models.append(build(*positional))
            return models[0]

        with monkeypatch.context() as patch:
            patch.setattr(NequIPLightningModule, "_build_model", capture)
            assert les_command("train", name, flag, *arguments) == 0
        return models[0]

    return run


@pytest.fixture
def refused(les_command, arguments, capsys):
    """A function that runs ``les train nequip --les ...``, which must fail; its message."""

    def run(*extra, **settings):
        capsys.readouterr()
        assert les_command("train", "nequip", "--les", *arguments(*extra, **settings)) == 1
        lines = capsys.readouterr().err.splitlines()
        assert not any("Traceback" in line for line in lines)
        return next(line for line in lines if line.startswith("les: error: "))

    return run


def les_modules(model):
    return [module for module in model.modules() if isinstance(module, LES)]


# --- configurations


@pytest.mark.parametrize("name", ["nequip", "allegro"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_shipped_configurations(
    name, system, les_command, initial_models, data_files, tmp_path, monkeypatch
):
    """``les config copy`` gives a file that trains, with and without LES."""
    monkeypatch.chdir(tmp_path)
    assert les_command("config", "copy", f"{name}/{system}") == 0
    train_file, valid_file = data_files
    arguments = [
        *("-cn", system, f"train_file={train_file}", f"valid_file={valid_file}"),
        *("elements=[H,O]", "hydra.run.dir=run", "hydra/job_logging=stdout"),
        *("+trainer.fast_dev_run=1", "++trainer.enable_progress_bar=false"),
    ]
    short_range = initial_models(name, "--no-les", arguments)
    model = initial_models(name, "--les", arguments)
    assert len(les_modules(model)) == 1
    assert not les_modules(short_range)
    key = {"nequip": "node_features", "allegro": "edge_features"}[name]
    assert les_modules(model)[0].feature_key == key


def test_settings_of_les(initial_models, arguments, tmp_path):
    content = {"sigma": 1.2, "n_hidden": [8, 4], "boundary": "mixed", "max_cell": [9.0, 9.0, 12.5]}
    (tmp_path / "les.yaml").write_text(yaml.safe_dump(content))
    options = arguments("--les_arguments", tmp_path / "les.yaml")
    les = les_modules(initial_models("nequip", "--les", options))[0]
    assert les.config.sigma == 1.2
    assert tuple(les.config.n_hidden) == (8, 4)
    assert (les.reach.setting, les.reach.max_cell) == ("mixed", [9.0, 9.0, 12.5])
    assert les.config.cutoff == "smooth"


def test_configuration_that_has_les_is_left_alone(initial_models, arguments):
    """Also where it is chained already."""
    slot = f"{{_target_: les_nequip.PairPotentials, potentials: [{ZBL}, " + (
        "{_target_: les_nequip.LES, sigma: 1.3}]}"
    )
    slot = slot.replace("[H, O]}", "[H, O], _partial_: true}").replace(
        "1.3}", "1.3, _partial_: true}"
    )
    options = arguments(f"+training_module.model.pair_potential={slot}")
    found = les_modules(initial_models("nequip", "--les", options))
    assert [les.config.sigma for les in found] == [1.3]


def test_program_of_hydra(refused, tmp_path):
    """Upstream's own mistakes stay readable."""
    assert "multirun" in refused("--multirun")


def test_assertion_without_a_text():
    """It says at least what was asserted."""

    def refuse():
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        refuse()
    assert _reason(caught.value) == "AssertionError of refuse: raise AssertionError"
    assert _reason(AssertionError("a text")) == "a text"


def test_help(les_command, capsys):
    assert les_command("train", "nequip", "--les", "--help") == 0
    text = capsys.readouterr().out
    for option in ("--config-name", "--config-path", "--les_arguments", "--from", "--resume"):
        assert option in text


# --- what is refused


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--les_arguments", "own.yaml"], "--les_arguments.*'boundry'; did you mean 'boundary'"),
        (["max_epoch=2"], "Could not override 'max_epoch'"),
        (["--les_arguments", "boundary.yaml"], r"`boundary` must be one of .*got 'slab'"),
        (["trainer.accelerator=gpu"], "gpu|GPU|CUDA"),
        (
            ["~training_module.model", "+training_module.model={_target_: nequip.model.Nothing}"],
            "cannot find nequip.model.Nothing",
        ),
        (
            ["~training_module.model", "+training_module.model={_target_: nequip.model.LJ}"],
            "cannot find|no argument `pair_potential`",
        ),
        (["--config", "water"], "--config excludes --config-name"),
        (["--name", "x"], "hydra.run.dir excludes --name"),
    ],
)
def test_bad_arguments(refused, extra, message, tmp_path, monkeypatch):
    if "accelerator" in extra[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("boundry: open\n")
    (tmp_path / "boundary.yaml").write_text("boundary: slab\n")
    error = refused(*extra)
    assert re.search(message, error), error


@pytest.mark.parametrize("value", ["list.yaml", "nowhere.yaml", "[sigma]"])
def test_settings_that_are_no_mapping(les_command, arguments, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("- sigma\n")
    with pytest.raises(SystemExit):
        les_command("train", "nequip", "--les", *arguments("--les_arguments", value))
    error = capsys.readouterr().err
    assert value in error
    assert error.count("\n") == 1


def test_missing_configuration(les_command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert les_command("train", "nequip", "--les", "max_epochs=1") == 1
    assert "there is no configuration" in capsys.readouterr().err


def test_name_that_hydra_does_not_know(les_command, data_files, tmp_path, capsys):
    path = tmp_path / "cfg.yml"
    path.write_text(get_backend("nequip").configs()["water"].read_text())
    options = ("--config", path, "--train_file", data_files[0], "--valid_file", data_files[1])
    assert les_command("train", "nequip", "--les", *options) == 1
    error = capsys.readouterr().err
    assert "--config: the name of a configuration of nequip-train must end with .yaml, got" in error
    assert "cfg.yml" in error


# --- predictions


@pytest.fixture(scope="module")
def model_file(nequip_section, nequip_model, nequip_checkpoint, tmp_path_factory):
    settings = {"output_scaling_factor": 3.0}
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    return nequip_checkpoint(path, nequip_section(les=settings), nequip_model(les=settings))


@pytest.mark.parametrize("backend", ["nequip", "allegro"])
def test_predict(backend, les_command, model_file, check_predictions, tmp_path):
    write(tmp_path / "structures.xyz", [dimer(), crystal()], format="extxyz")
    output = tmp_path / "out.xyz"
    options = ("predict", "--backend", backend, model_file, tmp_path / "structures.xyz")
    assert les_command(*options, "-o", output, "--bec") == 0
    check_predictions(output, [dimer(), crystal()], LESCalculator(model_file, bec=True))


def test_doctor_on_a_model(les_command, model_file, capsys):
    assert les_command("doctor", model_file) == 0
    assert "nequip, LES with sigma = 1 A" in capsys.readouterr().out


@pytest.mark.parametrize("problem", ["Au", "pbc must have 0, 2 or 3 axes true"])
def test_predict_names_the_bad_frame(problem, les_command, model_file, tmp_path, capsys):
    bad = crystal()
    if problem == "Au":
        bad.numbers[0] = 79
    else:
        bad.pbc = [True, False, False]
    path = tmp_path / "bad.xyz"
    write(path, [dimer(), bad], format="extxyz")
    options = ("--backend", "nequip", "-o", tmp_path / "out.xyz")
    assert les_command("predict", *options, model_file, path) == 1
    error = capsys.readouterr().err
    assert re.search(rf"bad\.xyz: frame 1: .*{problem}", error), error
    assert not (tmp_path / "out.xyz").exists()
