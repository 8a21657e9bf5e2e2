"""Doors of the CACE adapter: options, files that are damaged, pickles, names, full disks."""

from __future__ import annotations

import re

import pytest
import torch
from ase import Atoms
from ase.io import read, write

from les.backends import get_backend
from les.backends.model_files import PickleRefusedError
from les.testing.adapter import results_of
from les.testing.structures import dimer
from les_cace import CACE, LESCalculator, load_model, load_published, save_model

OPTIONS = {
    "name": "small",
    "model": "{n_atom_basis: 2, cutoff: 3.5, n_rbf: 3, n_radial_basis: 2, max_l: 1, max_nu: 2}",
    "readout": "{n_layers: 2, n_hidden: 4}",
    "stages": "[{epochs: 1, energy: 1, forces: 10}]",
    "batch_size": 6,
}


@pytest.fixture(scope="module")
def backend_name():
    return "cace"


@pytest.fixture(scope="module")
def small_options():
    return OPTIONS


@pytest.fixture(scope="module")
def published(reference_dir):
    """A published model with LES, which is a pickle."""
    return reference_dir / "checkpoints" / "cace_les_water_r45_nu2.pth"


# --- training


def test_damaged_checkpoints(train, arguments, damaged_checkpoints_are_refused, tmp_path):
    options = ["--les", *arguments(tmp_path)]
    train(*options)
    damaged_checkpoints_are_refused(tmp_path / "small_checkpoint.cace.pt", *options)
    train(*options, "--resume")


def test_one_way_to_say_it(train, arguments, data_files, tmp_path, caplog):
    """Configurations by name or file, LES arguments as a mapping or a file, keys of labels."""
    caplog.set_level("INFO", logger="les")
    frames = read(data_files[0], ":4")
    for frame in frames:
        frame.info["dft_energy"] = frame.info.pop("REF_energy")
        frame.arrays["forces"] = frame.arrays.pop("REF_forces")  # a plain key
    frames[1].info["total_charge"] = -1
    write(
        tmp_path / "plain.xyz", frames, format="extxyz", columns=["symbols", "positions", "forces"]
    )
    (tmp_path / "les.yaml").write_text("sigma: 1.5\n")
    files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "plain.xyz")
    options = {**files, "energy_key": "dft_energy", "config": "water", "device": "auto"}
    train("--les", *arguments(tmp_path / "one", **options, les_arguments=tmp_path / "les.yaml"))
    options = {**options, "config": "cace/water", "les_arguments": "{sigma: 1.5}"}
    train("--les", *arguments(tmp_path / "two", **options))
    models = [load_model(tmp_path / name / "small.cace.pt") for name in ("one", "two")]
    assert models[0].les_config == models[1].les_config
    assert models[0].les_config.sigma == 1.5
    assert caplog.text.count("best model: ") == 2
    # Of the training and the validation file, and not again for the table at the end.
    told = f"1 of 4 structures of {tmp_path / 'plain.xyz'} have a total_charge other than 0"
    assert caplog.text.count(told) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../../x"}, "--name must be the start of file names"),
        ({"device": "cuda:99"}, r"`device` is cuda:99, but torch sees \w+ CUDA GPU here"),
    ],
)
def test_refused(changes, message, refused, arguments, tmp_path):
    error = refused("--les", *arguments(tmp_path / "in" / "side", **changes))
    assert re.search(message, error), error
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--config=watre", "there is no file watre, and no configuration 'watre'"),
        ("--les_arguments=none.yaml", "a YAML file of one, got 'none.yaml'"),
        ("--alow_pickle", "--allow_pickle"),
        ("--epoch=3", "--epochs"),
    ],
)
def test_mistyped(option, message, usage_error, arguments, tmp_path):
    assert message in usage_error("--les", *arguments(tmp_path), option)


def test_one_key_in_all_files(refused, arguments, data_files, tmp_path):
    frames = read(data_files[1], ":")
    for frame in frames:
        frame.info["energy"] = frame.info.pop("REF_energy")
    write(tmp_path / "plain.xyz", frames, format="extxyz")
    error = refused("--les", *arguments(tmp_path, valid_file=tmp_path / "plain.xyz"))
    message = "plain.xyz: frame 0 has the energy under 'energy', .*train.xyz: frame 0 under 'REF_en"
    assert re.search(message, error), error


@pytest.mark.parametrize("consent", [[], ["--allow-pickle"]])
def test_a_pickle_is_not_continued(consent, refused, arguments, tmp_path):
    """With consent, which is for the model to start from, and without advice to give it."""
    path = tmp_path / "small_checkpoint.cace.pt"
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    error = refused("--les", *arguments(tmp_path), "--resume", *consent)
    assert f"{path} is a pickle or a program, no state of a training" in error
    assert "allow" not in error


def test_pickles_to_start_from(train, refused, arguments, published, tmp_path):
    fine_tuning = arguments(tmp_path, **{"from": published, "model": None, "readout": None})
    error = refused("--les", *fine_tuning)
    assert f"{published} is a pickle" in error
    assert "--allow-pickle" in error
    assert "`les convert cace`" in error
    (tmp_path / "some.yaml").write_text("allow_pickle: true\n")
    error = refused("--les", *fine_tuning, f"--config={tmp_path / 'some.yaml'}")
    assert "'allow_pickle' is given on the command line only" in error
    train("--les", *fine_tuning, "--allow_pickle", "--epochs=1")
    model = load_model(tmp_path / "small.cace.pt")
    assert (
        model.les_config.settings()
        == load_published(published, allow_pickle=True).les_config.settings()
    )


def test_a_disk_that_is_full(refused, arguments, monkeypatch, tmp_path):
    def fail(content, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    error = refused("--no-les", *arguments(tmp_path))
    assert f"{tmp_path / 'small_best.cace.pt'} could not be written completely" in error
    assert not list(tmp_path.glob("*.part"))


# --- model files


@pytest.fixture
def model_file(small, tmp_path):
    """The file of a model with charges."""
    path = tmp_path / "model.cace.pt"
    save_model(CACE(small, {}), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("format"), "holds no CACE model"),
        (lambda content: content.pop("arguments"), "is no CACE model: it lacks 'arguments'"),
        (lambda content: content.pop("state_dict"), "is no CACE model: it lacks 'state_dict'"),
        (
            lambda content: content.update(state_dict=None),
            "is no CACE model with weights",
        ),
        (lambda content: content["state_dict"].popitem(), "does not fit.*Missing key"),
        (lambda content: content.update(arguments={}), "does not fit.*representation"),
        (lambda content: content["arguments"].update(new=1), "does not fit.*new"),
    ],
)
def test_files_that_lack_a_part(model_file, change, message):
    content = torch.load(model_file, weights_only=True)
    change(content)
    torch.save(content, model_file)
    with pytest.raises(ValueError, match=rf"{re.escape(str(model_file))} {message}") as caught:
        load_model(model_file)
    assert "\n" not in str(caught.value)


def test_state_without_a_model(model_file):
    for content in ([1], {"model": None}, {"model": torch.load(model_file), "average": 3}):
        torch.save(content, model_file)
        with pytest.raises(ValueError, match=re.escape(str(model_file))):
            load_model(model_file)


def test_published_models_need_consent(published, les_command, capsys, tmp_path):
    with pytest.raises(PickleRefusedError, match=r"allow_pickle=True.*`les convert cace`"):
        LESCalculator(published)
    atoms = Atoms("OH2", dimer().positions[:3])
    calculator = LESCalculator(published, allow_pickle=True)
    expected = LESCalculator(load_published(published, allow_pickle=True))
    assert results_of(calculator, atoms)["energy"] == results_of(expected, atoms)["energy"]
    write(tmp_path / "water.xyz", atoms)
    predict = ["predict", published, tmp_path / "water.xyz", "--backend", "cace"]
    assert les_command(*predict, "-o", tmp_path / "out.xyz") == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command(*predict, "-o", tmp_path / "out.xyz", "--allow-pickle") == 0


# --- calculators


def test_devices_and_heads(model_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert LESCalculator(model_file, device="auto").device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA GPU here"):
        LESCalculator(model_file, device="cuda")
    with pytest.raises(ValueError, match=r"models of .*cace.* have no heads, got .*'dft'"):
        get_backend("cace").calculator(model_file, head="dft")
    with pytest.raises(TypeError, match="unknown keyword `head`"):
        LESCalculator(model_file, head="dft")
    with pytest.raises(TypeError, match="`model` must be a CACE, got Linear"):
        LESCalculator(torch.nn.Linear(1, 1))


def test_single_precision_far_from_the_origin(model_file):
    calculator = LESCalculator(model_file, dtype="float32", bec=True)
    near, far = dimer(), dimer()
    far.positions += [3e5, -2e5, 1e6]
    expected = results_of(calculator, near)
    actual = results_of(calculator, far)
    for key in ("energy", "les_energy", "charges", "dipole", "born_effective_charges"):
        assert actual[key] == pytest.approx(expected[key], abs=1e-5), key
