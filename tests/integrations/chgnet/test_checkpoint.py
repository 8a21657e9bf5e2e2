"""Model files: ours, upstream's, and those that are neither."""

from __future__ import annotations

import copy
import pickle
import re
from importlib import resources

import pytest
import torch
from chgnet.model import CHGNet
from chgnet.model.composition_model import AtomRef
from chgnet.trainer import Trainer

from les.testing.earlier import AS_BEFORE, earlier_pickle, earlier_settings, earlier_state
from les.testing.structures import crystal, dimer
from les_chgnet import CHGNetLES, load_model, save_model

SETTINGS = {
    "sigma": 1.3,
    "dl": 1.7,
    "cutoff": "sharp",
    "epsilon_factor": 1.5,
    "n_layers": 2,
    "n_hidden": 8,
    "add_linear_nn": False,
}


@pytest.fixture(scope="module")
def model(chgnet_arguments):
    """A model with settings that differ from all defaults; tests must not change it."""
    torch.manual_seed(3)
    return CHGNetLES(les_arguments=SETTINGS, **chgnet_arguments).eval()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pth.tar"


def assert_same_model(actual, expected):
    """Same class, settings, weights and numbers."""
    assert type(actual) is type(expected)
    ours, theirs = actual.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype, key
        assert torch.equal(ours[key], value), key
    converter = CHGNetLES.from_short_range(actual) if type(actual) is CHGNet else actual
    converter = converter.graph_converter
    graphs = [converter(dimer()), converter(crystal("left-handed"))]
    keys = ["e", "f", "s", "m"]
    if isinstance(expected, CHGNetLES):
        assert actual.les.config() == expected.les.config()
        assert actual.graph_converter.as_dict() == expected.graph_converter.as_dict()
        keys += ["les_energy", "charges", "dipole"]
    first, second = actual.eval()(graphs, task="efsm"), expected(graphs, task="efsm")
    for key in keys:
        for one, other in zip(first[key], second[key], strict=True):
            assert torch.equal(one, other), key


# --- our files


def test_own_file(model, path):
    save_model(model, str(path))
    loaded = load_model(path)
    assert_same_model(loaded, model)
    config = loaded.les.config()
    assert {key: getattr(config, key) for key in SETTINGS} == SETTINGS
    assert (loaded.les.ewald.sigma, loaded.les.ewald.dl) == (1.3, 1.7)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "model" in torch.load(path, weights_only=True)
    # ... and again, over the old one
    save_model(loaded, path)
    assert_same_model(load_model(str(path)), model)


def test_short_range_file(short_range_model, path):
    """It is upstream's format, which upstream reads as well."""
    save_model(short_range_model, path)
    assert_same_model(load_model(path), short_range_model)
    assert_same_model(CHGNet.from_file(str(path)), short_range_model)


def test_upstreams_function_reads_our_files(model, path):
    save_model(model, path)
    assert_same_model(CHGNetLES.from_file(str(path)), model)


def test_double_precision_file(model, path):
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        double.les.atomwise.network[0].weight += 1e-10
    save_model(double, path)
    assert_same_model(load_model(path), double)


def test_what_earlier_releases_wrote(chgnet_arguments, path):
    """In files and pickles; charges keep their mean, and elements have none of their own."""
    torch.manual_seed(3)
    model = CHGNetLES(les_arguments={**SETTINGS, **AS_BEFORE}, **chgnet_arguments).eval()
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    of_model = content["model"]
    arguments = of_model["model_args"]
    arguments["les_arguments"] = earlier_settings(arguments["les_arguments"])
    of_model["state_dict"] = earlier_state(of_model["state_dict"])
    del of_model["format"]  # which they did not have
    torch.save(content, path)
    for loaded in (load_model(path), CHGNetLES.from_dict(of_model)):
        assert_same_model(loaded, model)
    loaded = pickle.loads(earlier_pickle(model))
    loaded.les._apply_settings(loaded.les.config())  # written as they are now
    assert_same_model(loaded, model)


def test_a_file_of_a_newer_release(model, path):
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    assert content["model"]["format"] == "les_chgnet.CHGNetLES/2"
    content["model"]["format"] = "les_chgnet.CHGNetLES/3"
    torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"model\.pth\.tar does not fit .* the format version 3, and"
    ):
        load_model(path)


def test_fine_tuned_pretrained_model(path):
    """The way from a name to a file and back."""
    model = CHGNetLES.from_pretrained("r2scan", {"sigma": 0.8}).eval()
    save_model(model, path)
    loaded = load_model(path)
    assert_same_model(loaded, model)
    assert loaded.version == "r2scan"


@pytest.mark.parametrize("les", [True, False])
def test_fitted_reference_energies(chgnet_arguments, path, les):
    """Upstream keeps the module among the arguments, as a pickle."""
    reference = AtomRef()
    reference.initialize_from("MPtrj")
    with torch.no_grad():
        reference.fc.weight[0, [0, 7]] = torch.tensor([-13.0, -400.0])
    kind = CHGNetLES if les else CHGNet
    model = kind(**chgnet_arguments, composition_model=reference).eval()
    save_model(model, path)
    loaded = load_model(path)
    assert_same_model(loaded, model)
    converter = CHGNetLES(**chgnet_arguments).graph_converter
    assert loaded([converter(dimer())])["e"].item() < -140.0


def test_model_without_reference_energies(chgnet_arguments, path):
    model = CHGNetLES(**chgnet_arguments, composition_model=None).eval()
    save_model(model, path)
    assert load_model(path).composition_model is None
    assert_same_model(load_model(path), model)


# --- upstream's files


@pytest.mark.parametrize("name", ["model", "short_range_model"])
def test_file_of_upstreams_trainer(name, path, request):
    model = request.getfixturevalue(name)
    trainer = Trainer(copy.deepcopy(model), targets="efsm", use_device="cpu")
    trainer.save(str(path))
    assert_same_model(load_model(path), model)


def test_upstreams_file_with_a_module(chgnet_arguments, path):
    """Reference energies given as a module make the file a pickle."""
    reference = AtomRef()
    reference.initialize_from("MPtrj")
    plain = CHGNet(**chgnet_arguments, composition_model=reference).eval()
    torch.save({"model": plain.as_dict()}, path)
    message = rf"{re.escape(str(path))} is a pickle, no plain CHGNet model.*allow_pickle=True"
    with pytest.raises(ValueError, match=message):
        load_model(path)
    loaded = load_model(path, allow_pickle=True)
    assert_same_model(loaded, plain)
    # ... and with charges, it can be saved as ours.
    longer = CHGNetLES.from_short_range(loaded).eval()
    save_model(longer, path)
    assert_same_model(load_model(path), longer)


@pytest.mark.parametrize("name", ["0.3.0", "0.2.0", "r2scan"])
def test_pretrained_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_model(name)
    expected = CHGNet.load(model_name=name, use_device="cpu", verbose=False).eval()
    assert loaded.version == name
    assert_same_model(loaded, expected)


@pytest.mark.parametrize("name", ["0.3.0", "0.2.0", "r2scan"])
def test_pretrained_by_file(name):
    """Those of 0.2.0 hold biases that their arguments do not tell of."""
    (path,) = (resources.files("chgnet") / "pretrained" / name).glob("*.tar")
    assert_same_model(load_model(path), load_model(name))


def test_a_file_goes_before_a_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(model, "0.3.0")
    assert_same_model(load_model("0.3.0"), model)


# --- what is no model file

NO_MODEL = r"model\.pth\.tar is no CHGNet model: it (holds|lacks)"


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_missing_file(tmp_path, allow_pickle):
    for source in (tmp_path / "missing.pth.tar", "0.4.9"):
        with pytest.raises(FileNotFoundError, match=f"no model file .*{source}"):
            load_model(source, allow_pickle=allow_pickle)
    with pytest.raises(ValueError, match=f"{tmp_path} must be a CHGNet model file, got a folder"):
        load_model(tmp_path, allow_pickle=allow_pickle)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 truncated"])
def test_foreign_file(path, content):
    path.write_bytes(content)
    for allow_pickle in (False, True):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_model(path, allow_pickle=allow_pickle)


def test_pickled_model(model, path):
    """No format of ours or upstream's."""
    torch.save(model, path)
    with pytest.raises(ValueError, match=r"a pickle, no plain CHGNet model.*allow_pickle=True"):
        load_model(path)
    with pytest.raises(ValueError, match=NO_MODEL):
        load_model(path, allow_pickle=True)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(2),
        {"weights": torch.zeros(2)},
        {"model": torch.zeros(2)},
        {"model": {"state_dict": {}}},
        [{"model": {}}],
    ],
)
def test_file_of_something_else(path, content):
    torch.save(content, path)
    with pytest.raises(ValueError, match=NO_MODEL):
        load_model(path)


def test_changed_weights(model, path):
    """Upstream loads such a file without a word, and computes other energies."""
    save_model(model, path)
    data = bytearray(path.read_bytes())
    start = data.find(model.les.atomwise.network[0].weight.detach().numpy().tobytes())
    assert start > 0
    data[start : start + 32] = bytes(32)
    path.write_bytes(data)
    assert "model" in torch.load(path, weights_only=True)
    for allow_pickle in (False, True):
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is damaged: the checksum"):
            load_model(path, allow_pickle=allow_pickle)


def test_truncated_file(model, path):
    save_model(model, path)
    whole = path.read_bytes()
    for size in (100, 5000, len(whole) - 100):
        path.write_bytes(whole[:size])
        for allow_pickle in (False, True):
            with pytest.raises(ValueError, match=re.escape(str(path))):
                load_model(path, allow_pickle=allow_pickle)


def change_content(path, change):
    content = torch.load(path, weights_only=True)
    change(content["model"])
    torch.save(content, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved["state_dict"].pop("les.atomwise.network.0.weight"), "Missing key"),
        (lambda saved: saved["state_dict"].pop("mlp.layers.0.weight"), "Missing key"),
        (lambda saved: saved["model_args"].update(atom_fea_dim=8), "size mismatch|n_features"),
        (lambda saved: saved["model_args"]["les_arguments"].update(new=1), "unknown key 'new'"),
        (lambda saved: saved["model_args"].update(mlp_first=False), "`mlp_first` must be true"),
        (lambda saved: saved["model_args"].pop("les_arguments"), "Unexpected key"),
    ],
)
def test_file_that_does_not_fit(model, path, change, message):
    save_model(model, path)
    change_content(path, change)
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(path))} does not fit.*({message})"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.update(model_args=None),
        lambda saved: saved.update(state_dict=None),
        lambda saved: saved["model_args"].update(les_arguments=[1]),
        lambda saved: saved["state_dict"].update({"les.settings": torch.zeros(3)}),
        lambda saved: saved["model_args"].update(composition_model="nothing"),
    ],
)
def test_damaged_content(model, path, change):
    save_model(model, path)
    change_content(path, change)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_model(path)


def test_failed_saving_leaves_the_old_file(model, path, monkeypatch):
    save_model(model, path)
    before = path.read_bytes()

    def fail(content, target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
