"""The command ``les`` with NequIP and Allegro: configurations, labels, refusals, predictions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml
from ase.io import read, write
from nequip.train import NequIPLightningModule

from les.backends import get_backend
from les.testing.structures import crystal, dimer
from les_nequip import LES, LESCalculator

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


def test_help_is_upstreams(les_command, capsys):
    assert les_command("train", "nequip", "--les", "--help") == 0
    text = capsys.readouterr().out
    for option in ("--config-name", "--config-path", "--les_arguments", "--from"):
        assert option in text


# --- what is refused


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--les_arguments", "bad.yaml"], "bad.yaml.*unknown key 'simga'; did you mean 'sigma'"),
        (["--les_arguments", "own.yaml"], "own.yaml.*'boundry'; did you mean 'boundary'"),
        (["--les_arguments", "list.yaml"], "list.yaml"),
        (["max_epoch=2"], "Could not override 'max_epoch'"),
        (["--les_arguments", "boundary.yaml"], r"`boundary` must be one of .*got 'slab'"),
        (["--from", "nowhere.ckpt"], "--from: there is no file nowhere.ckpt"),
        (["--from", "bad.yaml"], r"--from must be a checkpoint \(.ckpt\) or a package"),
        (
            ["~training_module.model", "+training_module.model={_target_: nequip.model.Nothing}"],
            "cannot find nequip.model.Nothing",
        ),
        (
            ["~training_module.model", "+training_module.model={_target_: nequip.model.LJ}"],
            "cannot find|no argument `pair_potential`",
        ),
    ],
)
def test_bad_arguments(refused, extra, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("simga: 1.2\n")
    (tmp_path / "own.yaml").write_text("boundry: open\n")
    (tmp_path / "list.yaml").write_text("- sigma\n")
    (tmp_path / "boundary.yaml").write_text("boundary: slab\n")
    error = refused(*extra)
    assert re.search(message, error), error


def test_missing_files(refused, tmp_path):
    assert "nowhere.xyz" in refused(train_file=tmp_path / "nowhere.xyz")
    assert "nowhere.yaml" in refused("--les_arguments", tmp_path / "nowhere.yaml")


def broken(frames, key, frame, value):
    """``frames`` with another label, or none."""
    atoms = frames[frame]
    labels = atoms.info if key in atoms.info else atoms.arrays
    if value is None:
        del labels[key]
    else:
        labels[key] = labels[key] * value
    return frames


@pytest.mark.parametrize("which", ["train_file", "valid_file"])
@pytest.mark.parametrize(
    ("key", "field"), [("REF_energy", "total_energy"), ("REF_forces", "forces")]
)
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_labels_of_every_frame(refused, data_files, which, key, field, value, tmp_path):
    original = data_files[which == "valid_file"]
    path = tmp_path / "bad.xyz"
    write(path, broken(read(original, ":"), key, 3, value), format="extxyz")
    error = refused(**{which: path})
    problem = "is missing" if value is None else "must be finite, got NaN or infinity"
    assert f"bad.xyz, frame 3: {field} (key '{key}' or" in error
    assert problem in error


def test_labels_under_another_key(refused, data_files, tmp_path):
    path = tmp_path / "force.xyz"
    path.write_text(data_files[0].read_text().replace("REF_forces", "force"))
    error = refused(train_file=path)
    assert "force.xyz, frame 0: forces (key 'REF_forces' or 'forces') is missing" in error
    assert "`data.key_mapping`" in error


def test_labels_without_les_are_upstreams_business(les_command, arguments, data_files, tmp_path):
    """Of a run without LES, nothing is checked or changed."""
    from nequip.data.dataset import ASEDataset

    original = ASEDataset.__init__
    path = tmp_path / "bad.xyz"
    write(path, broken(read(data_files[0], ":"), "REF_energy", 3, np.nan), format="extxyz")
    assert les_command("train", "nequip", "--no-les", *arguments(train_file=path)) == 0
    assert ASEDataset.__init__ is original


# --- predictions


@pytest.fixture(scope="module")
def model_file(nequip_section, nequip_model, nequip_checkpoint, tmp_path_factory):
    settings = {"output_scaling_factor": 3.0}
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    return nequip_checkpoint(path, nequip_section(les=settings), nequip_model(les=settings))


@pytest.mark.parametrize("backend", ["nequip", "allegro"])
def test_predict(backend, les_command, model_file, check_predictions, tmp_path, capsys):
    write(tmp_path / "structures.xyz", [dimer(), crystal()], format="extxyz")
    output = tmp_path / "out.xyz"
    options = ("predict", "--backend", backend, model_file, tmp_path / "structures.xyz")
    options += ("-o", output, "--bec")
    assert les_command(*options) == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command(*options, "--allow-pickle") == 0
    calculator = LESCalculator.from_file(model_file, allow_pickle=True, bec=True)
    check_predictions(output, [dimer(), crystal()], calculator)


@pytest.mark.parametrize("problem", ["Au", "pbc must have 0 or 3 axes true"])
def test_predict_names_the_bad_frame(problem, les_command, model_file, tmp_path, capsys):
    bad = crystal()
    if problem == "Au":
        bad.numbers[0] = 79
    else:
        bad.pbc = [True, True, False]
    path = tmp_path / "bad.xyz"
    write(path, [dimer(), bad], format="extxyz")
    options = ("--backend", "nequip", "--allow-pickle", "-o", tmp_path / "out.xyz")
    assert les_command("predict", *options, model_file, path) == 1
    error = capsys.readouterr().err
    assert re.search(rf"bad\.xyz: frame 1: .*{problem}", error), error
    assert not (tmp_path / "out.xyz").exists()
